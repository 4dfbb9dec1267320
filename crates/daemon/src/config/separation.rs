//! Where a secret file comes from: the key ring and what makes stolen tokens usable should not come from one place (I16).
//!
//! Mostly that is its folder, with all links followed: whoever can read one file of it can read the other, and they are
//! in one backup. Two kinds of folders are put together from elsewhere, and are looked through:
//!
//! - a credentials directory of systemd holds a copy of what each `LoadCredential=` names: every credential counts by
//!   itself, whatever lies beside it;
//! - a mounted secret or projected volume of Kubernetes comes whole from the cluster: the volume counts, not the folder
//!   within it. Two volumes count as two; that both show the same Secret cannot be seen from inside.

use std::path::{Path, PathBuf};

/// The link by which kubelet exchanges the content of a volume in one go.
const VOLUME_LINK: &str = "..data";

/// The place that this file comes from. Files with the same answer leak together.
pub(super) fn source_of(file: &Path, credentials: Option<&Path>) -> PathBuf {
    let real = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    if is_credential(&real, credentials) {
        return real;
    }
    let folder = real.parent().unwrap_or(Path::new("/"));
    let volume = folder.ancestors().find(|above| above.join(VOLUME_LINK).symlink_metadata().is_ok_and(|meta| meta.is_symlink()));
    volume.unwrap_or(folder).to_owned()
}

/// Whether systemd has put this file there: `$CREDENTIALS_DIRECTORY`, or where system and user services have theirs.
fn is_credential(real: &Path, credentials: Option<&Path>) -> bool {
    let named = credentials.is_some_and(|folder| {
        let folder = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        real.parent() == Some(&folder)
    });
    let mut parts = real.components().skip(1).filter_map(|part| part.as_os_str().to_str());
    let of_a_service = match (parts.next(), parts.next(), parts.next()) {
        (Some("run"), Some("credentials"), Some(_)) => true,
        (Some("run"), Some("user"), Some(_)) => parts.next() == Some("credentials"),
        _ => false,
    };
    named || of_a_service
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn touch(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }

    #[test]
    fn files_of_one_folder_have_one_source_and_a_link_does_not_hide_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        touch(&at("keys/ring"));
        touch(&at("keys/app"));
        touch(&at("apps/app"));
        symlink(at("keys/app"), at("apps/link")).unwrap();
        let source = |path: &str| source_of(&at(path), None);
        assert_eq!(source("keys/ring"), source("keys/app"));
        assert_ne!(source("keys/ring"), source("apps/app"));
        assert_eq!(source("keys/ring"), source("apps/link"));
        assert_eq!(source_of(Path::new("/nowhere/ring"), None), Path::new("/nowhere"));
    }

    #[test]
    fn each_credential_of_a_service_is_a_source_of_its_own() {
        for folder in ["/run/credentials/tocsin.service", "/run/user/1000/credentials/tocsin.service"] {
            let folder = Path::new(folder);
            assert_ne!(source_of(&folder.join("ring"), None), source_of(&folder.join("app"), None));
        }
        let folder = tempfile::tempdir().unwrap();
        let (ring, app) = (folder.path().join("ring"), folder.path().join("app"));
        touch(&ring);
        touch(&app);
        assert_eq!(source_of(&ring, None), source_of(&app, None));
        assert_ne!(source_of(&ring, Some(folder.path())), source_of(&app, Some(folder.path())));
        // A folder further down is not what systemd has made.
        let deeper = folder.path().parent();
        assert_eq!(source_of(&ring, deeper), source_of(&app, deeper));
    }

    #[test]
    fn a_mounted_volume_is_one_source_and_two_volumes_are_two() {
        let folder = tempfile::tempdir().unwrap();
        let volume = |name: &str, items: &[&str]| {
            let root = folder.path().join(name);
            for item in items {
                touch(&root.join("..2026_11_21").join(item));
            }
            symlink("..2026_11_21", root.join(VOLUME_LINK)).unwrap();
            for item in items.iter().filter(|item| !item.contains('/')) {
                symlink(Path::new(VOLUME_LINK).join(item), root.join(item)).unwrap();
            }
            root
        };
        let both = volume("both", &["ring", "sub/app"]);
        assert_eq!(source_of(&both.join("ring"), None), source_of(&both.join("..data/sub/app"), None), "one volume, two folders");
        let (one, other) = (volume("one", &["ring"]), volume("other", &["app"]));
        assert_ne!(source_of(&one.join("ring"), None), source_of(&other.join("app"), None));
    }
}
