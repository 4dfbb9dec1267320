//! Finding the PostgreSQL server programs that are installed on this machine.
//!
//! Distributions put them where no `PATH` leads (Debian: one folder per version), so we look in the
//! places we know. A folder counts only if it holds `initdb` as well as `postgres`: a machine with the
//! client package alone has the folder, too. Links are followed first, since Postgres finds its share
//! folder by its own path.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The oldest major version that the schema works on.
pub(crate) const OLDEST: u32 = 15;

/// Where version folders lie: below the first, names that begin with the second, and in these the third.
const VERSION_FOLDERS: &[(&str, &str, &str)] = &[
    ("usr/lib/postgresql", "", "bin"),          // Debian, Ubuntu
    ("usr", "pgsql-", "bin"),                   // the PostgreSQL project's packages for RHEL, Fedora
    ("usr/lib", "postgresql", "bin"),           // SUSE
    ("usr/libexec", "postgresql", ""),          // Alpine
    ("usr/lib64", "postgresql-", "bin"),        // Gentoo
    ("opt/homebrew/opt", "postgresql@", "bin"), // Homebrew on Apple silicon
    ("usr/local/opt", "postgresql@", "bin"),    // Homebrew on Intel
    ("home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
    ("Applications/Postgres.app/Contents/Versions", "", "bin"),
    ("usr/local", "pgsql", "bin"), // built from source
];

/// The server programs of one installed version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    bindir: PathBuf,
    major: u32,
    version: String,
}

impl Programs {
    /// The folder that holds `postgres`, `initdb` and usually `psql`; links are resolved.
    pub fn bindir(&self) -> &Path {
        &self.bindir
    }

    /// The major version, such as 17.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The version as the server says it, such as `15.18`.
    pub fn version(&self) -> &str {
        &self.version
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.bindir.join(name)
    }

    /// The programs in `folder`, if both are there and the server can say its version.
    fn in_folder(folder: &Path) -> Option<Self> {
        let bindir = fs::canonicalize(folder.join("postgres")).ok()?.parent()?.to_owned();
        if !bindir.join("initdb").is_file() {
            return None;
        }
        // A `postgres` in PATH can be any program of that name; asking it settles the matter.
        let output = Command::new(bindir.join("postgres")).arg("--version").stdin(Stdio::null()).output().ok()?;
        let (major, version) = parse_version(std::str::from_utf8(&output.stdout).ok()?)?;
        Some(Self { bindir, major, version })
    }
}

/// There are no server programs that would do; says how to get some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotFound {
    explicit: Option<PathBuf>,
    too_old: Vec<Programs>,
    install: String,
}

impl std::error::Error for NotFound {}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.explicit, self.too_old.first()) {
            (Some(folder), None) => write!(
                f,
                "there are no PostgreSQL server programs (postgres and initdb) in {}, the folder that was given for them",
                folder.display()
            )?,
            (None, None) => f.write_str("no PostgreSQL server programs (postgres and initdb) were found on this machine")?,
            (_, Some(old)) => write!(f, "PostgreSQL {} in {} is too old, {OLDEST} or newer is needed", old.version, old.bindir.display())?,
        }
        // A machine without an operating system is a container's image, where nothing can be installed.
        if self.install.is_empty() {
            f.write_str(";")?;
        } else {
            write!(f, "; install them with: {} ; or", self.install)?;
        }
        f.write_str(" name a server that already runs by its database URL")
    }
}

/// Finds the server programs to use: those in `explicit` if given, otherwise the newest version found
/// in `PATH` and in the folders where the distributions put them.
///
/// The caller passes what the variable `PG_BINDIR` says as `explicit`. To start a server, hand the same
/// to [`crate::Options::bindir`]: [`crate::LocalPostgres::start`] prefers the version that made the data.
///
/// # Errors
///
/// When there are none of version 15 or newer; the message says how to install them here.
pub fn find_programs(explicit: Option<&Path>) -> Result<Programs, NotFound> {
    Search::of_this_machine(explicit).choose(None)
}

/// Where to look.
pub(crate) struct Search {
    explicit: Option<PathBuf>,
    path: OsString,
    root: PathBuf,
    /// Sudo is not worth a word to somebody who is root.
    root_user: bool,
}

impl Search {
    pub(crate) fn of_this_machine(explicit: Option<&Path>) -> Self {
        Self {
            explicit: explicit.map(Path::to_owned),
            path: std::env::var_os("PATH").unwrap_or_default(),
            root: "/".into(),
            root_user: rustix::process::geteuid().is_root(),
        }
    }

    /// The programs to use: of the major version `wanted` if those are there, otherwise the newest.
    ///
    /// The caller compares the version; that the wanted one is missing can be told better there.
    pub(crate) fn choose(&self, wanted: Option<u32>) -> Result<Programs, NotFound> {
        let mut best: Option<Programs> = None;
        let mut too_old = Vec::new();
        let mut seen = Vec::new();
        for folder in self.folders() {
            let Some(programs) = Programs::in_folder(&folder) else { continue };
            if seen.contains(&programs.bindir) {
                continue;
            }
            seen.push(programs.bindir.clone());
            if programs.major < OLDEST {
                too_old.push(programs);
            } else if wanted == Some(programs.major) {
                return Ok(programs);
            } else if best.as_ref().is_none_or(|best| best.major < programs.major) {
                best = Some(programs);
            }
        }
        best.ok_or_else(|| NotFound { explicit: self.explicit.clone(), too_old, install: self.install_line() })
    }

    /// The folders to look in, the most particular first. What the caller names is an order, not a hint.
    fn folders(&self) -> Vec<PathBuf> {
        if let Some(explicit) = &self.explicit {
            return vec![explicit.clone()];
        }
        let in_path = std::env::split_paths(&self.path).filter(|folder| folder.is_absolute());
        let versions = VERSION_FOLDERS.iter().flat_map(|(above, prefix, below)| {
            let mut found: Vec<PathBuf> = fs::read_dir(self.root.join(above))
                .into_iter()
                .flatten()
                .flatten()
                .filter(|entry| starts_with(&entry.file_name(), prefix))
                .map(|entry| entry.path().join(below))
                .filter(|folder| folder.join("postgres").exists())
                .collect();
            found.sort();
            found
        });
        in_path.chain(versions).collect()
    }

    fn install_line(&self) -> String {
        let macos = cfg!(target_os = "macos");
        let line = match fs::read_to_string(self.root.join("etc/os-release")) {
            Ok(os_release) => install_line(&os_release, macos),
            Err(_) if macos => install_line("", macos),
            Err(_) => "",
        };
        if self.root_user { line.replace("sudo ", "") } else { line.to_owned() }
    }
}

fn starts_with(name: &OsStr, prefix: &str) -> bool {
    name.as_encoded_bytes().starts_with(prefix.as_bytes())
}

/// Reads `postgres (PostgreSQL) 15.18 (Debian …)`; also `17beta1` and `18devel`.
fn parse_version(line: &str) -> Option<(u32, String)> {
    let version = line.strip_prefix("postgres (PostgreSQL) ")?.split_whitespace().next()?;
    Some((leading_number(version)?, version.to_owned()))
}

/// The major version at the start of a version: of `--version` and of the file PG_VERSION.
pub(crate) fn leading_number(version: &str) -> Option<u32> {
    let digits = version.trim_start().split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// The line that installs server programs of a version that will do, by what /etc/os-release says.
fn install_line(os_release: &str, macos: bool) -> &'static str {
    let field = |name: &str| {
        os_release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map_or("", |value| value.trim_matches('"'))
    };
    let (id, like, version) = (field("ID"), field("ID_LIKE"), field("VERSION_ID"));
    let is = |family: &str| id == family || like.split_whitespace().any(|word| word == family);
    let major = leading_number(version).unwrap_or(0);
    if macos {
        return "brew install postgresql@17";
    }
    // These two still carry an older Postgres under the plain name.
    if (id == "ubuntu" && major < 24) || (id == "debian" && (1..12).contains(&major)) {
        return "sudo apt-get install -y postgresql-common && sudo /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh && sudo apt-get install -y postgresql-17";
    }
    if is("debian") || is("ubuntu") {
        return "sudo apt-get install -y postgresql";
    }
    if (is("rhel") || is("centos")) && !is("amzn") && (8..10).contains(&major) {
        return "sudo dnf module install -y postgresql:16/server";
    }
    if is("fedora") || is("rhel") || is("centos") {
        return "sudo dnf install -y postgresql-server";
    }
    if is("alpine") {
        return "sudo apk add postgresql";
    }
    if is("arch") {
        return "sudo pacman -S postgresql";
    }
    if is("suse") || is("opensuse") {
        return "sudo zypper install postgresql-server";
    }
    "sudo apt-get install -y postgresql (Debian, Ubuntu), sudo dnf install -y postgresql-server (Fedora, RHEL), brew install postgresql@17 (macOS)"
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A machine in a folder: files that say they are Postgres programs.
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn with(self, folder: &str, says: &str, programs: &[&str]) -> Self {
            let folder = self.0.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            for program in programs {
                let path = folder.join(program);
                fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
            }
            self
        }

        fn search(&self) -> Search {
            Search { explicit: None, path: OsString::new(), root: self.0.path().to_owned(), root_user: false }
        }

        fn bindir(&self, folder: &str) -> PathBuf {
            fs::canonicalize(self.0.path().join(folder)).unwrap()
        }
    }

    const BOTH: &[&str] = &["postgres", "initdb"];

    #[test]
    fn the_newest_version_is_chosen_unless_the_data_wants_another() {
        let machine = Machine::new()
            .with("usr/lib/postgresql/15/bin", "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", BOTH)
            .with("usr/pgsql-17/bin", "postgres (PostgreSQL) 17.2", BOTH)
            .with("opt/homebrew/opt/postgresql@16/bin", "postgres (PostgreSQL) 16.4 (Homebrew)", BOTH);
        let newest = machine.search().choose(None).unwrap();
        assert_eq!((newest.major(), newest.version()), (17, "17.2"));
        assert_eq!(newest.bindir(), machine.bindir("usr/pgsql-17/bin"));
        assert_eq!(machine.search().choose(Some(15)).unwrap().version(), "15.18");
        assert_eq!(machine.search().choose(Some(16)).unwrap().version(), "16.4");
        // Nobody has 18: the newest is what the caller gets to complain about.
        assert_eq!(machine.search().choose(Some(18)).unwrap().major(), 17);
    }

    #[test]
    fn a_folder_with_half_of_the_programs_does_not_count() {
        let machine = Machine::new()
            .with("usr/lib/postgresql/17/bin", "postgres (PostgreSQL) 17.2", &["postgres"])
            .with("usr/lib/postgresql/16/bin", "psql (PostgreSQL) 16.1", &["psql"])
            .with("usr/lib/postgresql/18/bin", "somebody else's program", BOTH);
        assert!(machine.search().choose(None).is_err());
    }

    #[test]
    fn links_are_followed_to_where_the_share_folder_is() {
        let machine = Machine::new().with("Cellar/17/bin", "postgres (PostgreSQL) 17.2", BOTH);
        let links = machine.0.path().join("links");
        fs::create_dir(&links).unwrap();
        std::os::unix::fs::symlink(machine.0.path().join("Cellar/17/bin/postgres"), links.join("postgres")).unwrap();
        let search = Search { path: links.into(), ..machine.search() };
        assert_eq!(search.choose(None).unwrap().bindir(), machine.bindir("Cellar/17/bin"));
    }

    #[test]
    fn a_folder_that_was_named_is_the_only_one_looked_at() {
        let machine = Machine::new().with("usr/lib/postgresql/17/bin", "postgres (PostgreSQL) 17.2", BOTH).with(
            "mine",
            "postgres (PostgreSQL) 15.1",
            BOTH,
        );
        let named = |folder: &str| Search { explicit: Some(machine.0.path().join(folder)), ..machine.search() };
        assert_eq!(named("mine").choose(Some(17)).unwrap().major(), 15);
        let nothing = named("nowhere").choose(None).unwrap_err().to_string();
        assert!(nothing.contains("nowhere, the folder that was given"), "{nothing}");
    }

    #[test]
    fn when_nothing_is_found_one_sentence_says_how_to_get_it_and_what_else_would_do() {
        let machine = Machine::new();
        fs::create_dir_all(machine.0.path().join("etc")).unwrap();
        fs::write(machine.0.path().join("etc/os-release"), "NAME=\"Debian\"\nID=debian\nVERSION_ID=\"12\"\n").unwrap();
        assert_eq!(
            machine.search().choose(None).unwrap_err().to_string(),
            "no PostgreSQL server programs (postgres and initdb) were found on this machine; install them with: \
             sudo apt-get install -y postgresql ; or name a server that already runs by its database URL"
        );
        let as_root = Search { root_user: true, ..machine.search() };
        assert!(as_root.choose(None).unwrap_err().to_string().contains("with: apt-get install"));

        fs::remove_file(machine.0.path().join("etc/os-release")).unwrap();
        assert_eq!(
            machine.search().choose(None).unwrap_err().to_string(),
            "no PostgreSQL server programs (postgres and initdb) were found on this machine; \
             name a server that already runs by its database URL",
            "nothing can be installed in a container's image"
        );
    }

    #[test]
    fn a_version_that_is_too_old_is_named() {
        let machine = Machine::new().with("usr/lib/postgresql/13/bin", "postgres (PostgreSQL) 13.9", BOTH);
        let words = machine.search().choose(None).unwrap_err().to_string();
        assert!(words.starts_with("PostgreSQL 13.9 in ") && words.contains("is too old, 15 or newer is needed"), "{words}");
    }

    #[test]
    fn each_distribution_gets_its_own_line() {
        let table = [
            ("ID=debian\nVERSION_ID=\"12\"", "sudo apt-get install -y postgresql"),
            ("ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"", "sudo apt-get install -y postgresql"),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_ID=\"22\"", "sudo apt-get install -y postgresql"),
            ("ID=fedora\nVERSION_ID=42", "sudo dnf install -y postgresql-server"),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.4\"", "sudo dnf module install -y postgresql:16/server"),
            ("ID=\"rhel\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"10.0\"", "sudo dnf install -y postgresql-server"),
            ("ID=alpine\nVERSION_ID=3.20.0", "sudo apk add postgresql"),
        ];
        for (os_release, line) in table {
            assert_eq!(install_line(os_release, false), line, "{os_release}");
        }
        assert!(install_line("ID=ubuntu\nVERSION_ID=\"22.04\"", false).contains("apt.postgresql.org.sh"));
        assert!(install_line("", false).contains("dnf"));
        assert_eq!(install_line("", true), "brew install postgresql@17");
    }

    #[test]
    fn versions_are_read_as_the_programs_write_them() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some((15, "15.18".into())));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1\n"), Some((18, "18beta1".into())));
        assert_eq!(parse_version("psql (PostgreSQL) 15.1\n"), None);
        assert_eq!(leading_number("15\n"), Some(15));
        assert_eq!(leading_number("9.6\n"), Some(9));
        assert_eq!(leading_number("\n"), None);
    }
}
