//! Versions of the programs and of Kubernetes, and what they must be.

use crate::backend::BackendError;

/// The oldest kind that makes clusters of the oldest Kubernetes that we know (1.28 by default since 0.21).
const OLDEST_KIND: Version = Version(0, 20);
/// The first Docker that knows cgroup v2 and private cgroup namespaces.
const OLDEST_DOCKER: Version = Version(20, 10);
/// The first podman that has `podman update`, which guards the nodes.
const OLDEST_PODMAN: Version = Version(4, 3);
/// The first kind whose own node image has Kubernetes 1.31 or newer.
const DEFAULTS_TO_1_31: Version = Version(0, 24);

/// The first two numbers of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Version {
    /// The first version in a text: `kind v0.27.0 go1.24`, `28.2.2`, `kindest/node:debian-v1.20.2@sha256:…`.
    pub fn find(text: &str) -> Option<Self> {
        let starts = text.char_indices().filter(|(at, c)| {
            let before = text[..*at].chars().next_back();
            c.is_ascii_digit() && before.is_none_or(|before| !before.is_ascii_alphanumeric() || before == 'v')
        });
        starts.map(|(at, _)| &text[at..]).find_map(|rest| {
            let (major, rest) = rest.split_once('.')?;
            let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
            Some(Self(major.parse().ok()?, minor.parse().ok()?))
        })
    }
}

/// Refuses a program that is too old; one that does not say its version is taken as it is.
pub(super) fn check(program: &str, said: &str) -> Result<Option<Version>, BackendError> {
    let oldest = match program {
        "kind" => OLDEST_KIND,
        "docker" => OLDEST_DOCKER,
        "podman" => OLDEST_PODMAN,
        _ => Version(0, 0),
    };
    let found = Version::find(said);
    match found {
        Some(version) if version < oldest => Err(BackendError(format!(
            "{program} {version} is too old: exit137 needs {program} {oldest} or newer; upgrade it"
        ))),
        Some(_) => Ok(found),
        None => {
            tracing::warn!("{program} does not say its version: {:?}", said.trim());
            Ok(None)
        }
    }
}

/// Whether the nodes' kubelet knows `failCgroupV1` (1.31), by the node image's name, or by the kind that brings its own.
pub(super) fn knows_fail_cgroup_v1(node_image: Option<&str>, kind: Option<Version>) -> bool {
    match node_image {
        // Of a name and its registry's port only the tag says the version.
        Some(image) => image.rsplit_once("node:").is_some_and(|(_, tag)| {
            Version::find(tag).is_some_and(|kubernetes| kubernetes >= Version(1, 31))
        }),
        None => kind.is_some_and(|kind| kind >= DEFAULTS_TO_1_31),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_what_the_programs_say() {
        for (said, version) in [
            ("kind v0.27.0 go1.24.4 linux/amd64", Some(Version(0, 27))),
            ("28.2.2", Some(Version(28, 2))),
            ("debian-v1.20.2", Some(Version(1, 20))),
            (
                "v1.31.4@sha256:2cb39f7295fe7eafee0842b1052a599a4fb0f8bcf3f83d96c7f4864c357c6c30",
                Some(Version(1, 31)),
            ),
            ("", None),
        ] {
            assert_eq!(Version::find(said), version, "{said}");
        }
    }

    #[test]
    fn what_is_too_old_is_refused_and_what_says_nothing_is_not() {
        assert!(
            check("kind", "kind v0.11.1 go1.16").unwrap_err().to_string().contains("kind 0.11 is too old")
        );
        assert!(check("docker", "19.03.5").is_err());
        assert_eq!(check("docker", "28.2.2").unwrap(), Some(Version(28, 2)));
        assert_eq!(check("kind", "").unwrap(), None);
    }

    #[test]
    fn only_a_kubelet_of_1_31_is_told_about_cgroup_v1() {
        let kind = Some(Version(0, 27));
        assert!(!knows_fail_cgroup_v1(Some("kindest/node:debian-v1.20.2"), kind));
        assert!(knows_fail_cgroup_v1(Some("registry:5000/kindest/node:v1.35.0@sha256:00"), kind));
        assert!(knows_fail_cgroup_v1(None, kind));
        assert!(!knows_fail_cgroup_v1(None, Some(Version(0, 20))));
    }
}
