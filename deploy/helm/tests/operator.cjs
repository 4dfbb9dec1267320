// Holds rendered objects against the Prometheus operator's own kinds, from npm's @kubernetes-models/prometheus-operator.
//
//   node operator.cjs --where          prints where that package is; exit 1 if nowhere
//   node operator.cjs WHERE FILE…      validates objects written as JSON
const fs = require("node:fs");
const path = require("node:path");
const { pathToFileURL } = require("node:url");

const NAME = "@kubernetes-models/prometheus-operator";

async function main([where, ...files]) {
  if (where === "--where") {
    // The package can only be imported, which looks at no NODE_PATH; so its folder is found by hand.
    const found = require.resolve.paths(NAME).map((folder) => path.join(folder, NAME)).find(fs.existsSync);
    if (!found) process.exit(1);
    console.log(found);
    return;
  }
  const models = await import(pathToFileURL(path.join(where, "monitoring.coreos.com/v1/index.js")).href);
  for (const file of files) {
    const thing = JSON.parse(fs.readFileSync(file, "utf8"));
    new models[thing.kind](thing).validate();
    console.log(`${thing.kind} ${thing.metadata.name}: fits the operator`);
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
