// A certified OpenID provider that answers at the addresses of Microsoft's sign-in service, for one directory.
//
// It is not ours, so a mistake in reading the standard cannot cancel itself out as it could with a pretend service of
// our own. Refresh tokens rotate, and showing one twice revokes them all. Beside it, the one page of Graph that the
// proof of a connection reads, for tokens that this provider gave out.
//
// usage: node provider.mjs TENANT CLIENT_ID CLIENT_SECRET REDIRECT_URI
// prints its address on a line of its own once it listens; ends when standard input does.

import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const [tenant, clientId, clientSecret, redirectUri] = process.argv.slice(2);
const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const origin = `http://127.0.0.1:${server.address().port}`;
  const provider = makeProvider(`${origin}/${tenant}/v2.0`);
  const answer = provider.callback();
  const discovery = '/.well-known/openid-configuration';
  server.on('request', (request, response) => {
    if (request.url === `/${tenant}/v2.0${discovery}`) request.url = discovery;
    // This provider always asks who is there, and knows no other question about it; offline_access, by the letter of
    // the standard, is only granted where consent was asked for.
    request.url = request.url.replace('prompt=select_account', 'prompt=consent');
    if (request.url.startsWith('/v1.0/security/alerts_v2')) return alerts(provider, request, response);
    answer(request, response);
  });
  console.log(origin);
});
process.stdin.on('end', () => process.exit(0)).resume();

function makeProvider(issuer) {
  return new Provider(issuer, {
    clients: [{
      client_id: clientId,
      client_secret: clientSecret,
      redirect_uris: [redirectUri],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: 'client_secret_post',
    }],
    scopes: ['openid', 'offline_access', 'https://graph.microsoft.com/.default'],
    claims: { openid: ['sub', 'tid'] },
    conformIdTokenClaims: false,
    findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub, tid: tenant }) }),
    issueRefreshToken: () => true,
    rotateRefreshToken: true,
    features: { devInteractions: { enabled: true } },
    cookies: { keys: ['only for a test'] },
    routes: {
      authorization: `/${tenant}/oauth2/v2.0/authorize`,
      token: `/${tenant}/oauth2/v2.0/token`,
      jwks: `/${tenant}/discovery/v2.0/keys`,
    },
  });
}

async function alerts(provider, request, response) {
  const [, token] = (request.headers.authorization ?? '').split(' ');
  const known = token && (await provider.AccessToken.find(token));
  response.writeHead(known ? 200 : 401, { 'content-type': 'application/json' });
  response.end(JSON.stringify(known ? { value: [] } : { error: { code: 'InvalidAuthenticationToken', message: 'no such token' } }));
}
