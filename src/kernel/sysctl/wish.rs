//! Kernel settings that the configuration wishes for. Services work without them.

use std::fmt;
use std::io;

use super::{Sysctls, write_existing};

/// A setting with the value that the configuration wishes for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wish {
    /// Path below `/proc/sys`.
    pub path: &'static str,
    /// The value wished for.
    pub value: u64,
    /// Whether a higher value is as good.
    pub is_minimum: bool,
}

/// What became of a wish that was not true already.
#[derive(Debug)]
pub enum Granted {
    /// The setting had another value, and has the one wished for now.
    Changed {
        /// Which wish.
        wish: Wish,
        /// The value that it had.
        before: String,
    },
    /// It has another value and cannot be written, or does not exist.
    Refused {
        /// Which wish.
        wish: Wish,
        /// What the kernel answered.
        cause: io::Error,
    },
}

impl fmt::Display for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { wish, before } => {
                write!(f, "{} {before} -> {}", wish.name(), wish.value)
            }
            Self::Refused { wish, cause } => write!(
                f,
                "{name} should be {value} and cannot be set here ({cause}): run `sysctl -w \
                 {name}={value}` on the node",
                name = wish.name(),
                value = wish.value
            ),
        }
    }
}

impl Wish {
    fn name(&self) -> String {
        self.path.replace('/', ".")
    }

    fn is_true_at(&self, found: &str) -> bool {
        match found.parse::<u64>() {
            Ok(found) if self.is_minimum => found >= self.value,
            Ok(found) => found == self.value,
            Err(_) => false,
        }
    }
}

impl Sysctls {
    /// Writes what differs from the wishes, in their order. One that cannot be written does not
    /// stop the others; nothing is said of what is right already.
    #[must_use]
    pub fn grant(&self, wishes: &[Wish]) -> Vec<Granted> {
        let grant = |wish: &Wish| match self.set(*wish) {
            Ok(None) => None,
            Ok(Some(before)) => Some(Granted::Changed { wish: *wish, before }),
            Err(cause) => Some(Granted::Refused { wish: *wish, cause }),
        };
        wishes.iter().filter_map(grant).collect()
    }

    /// The value that was there before, if it had to be changed.
    fn set(&self, wish: Wish) -> io::Result<Option<String>> {
        let before = self.read(wish.path)?;
        if wish.is_true_at(&before) {
            return Ok(None);
        }
        write_existing(&self.root.join(wish.path), &wish.value.to_string())?;
        Ok(Some(before))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    const SIZE: Wish = Wish { path: "max", value: 100, is_minimum: true };
    const TIME: Wish = Wish { path: "timeout", value: 60, is_minimum: false };

    fn tree(max: &str, timeout: &str) -> (tempfile::TempDir, Sysctls) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("max"), max).unwrap();
        fs::write(directory.path().join("timeout"), timeout).unwrap();
        let sysctls = Sysctls::at(directory.path());
        (directory, sysctls)
    }

    #[test]
    fn sizes_are_raised_and_times_are_set() {
        let granted = |max: &str, timeout: &str| -> Vec<String> {
            let (_directory, sysctls) = tree(max, timeout);
            let granted = sysctls.grant(&[SIZE, TIME]);
            assert!(sysctls.grant(&[SIZE, TIME]).is_empty(), "the second time");
            granted.iter().map(ToString::to_string).collect()
        };
        assert_eq!(granted("50\n", "90\n"), ["max 50 -> 100", "timeout 90 -> 60"]);
        assert_eq!(granted("150\n", "60\n"), Vec::<String>::new());
    }

    #[test]
    fn one_refusal_does_not_stop_the_others() {
        let (directory, sysctls) = tree("1", "1");
        fs::remove_file(directory.path().join("max")).unwrap();
        let granted: Vec<_> = sysctls.grant(&[SIZE, TIME]).iter().map(Granted::to_string).collect();
        assert!(granted[0].ends_with("run `sysctl -w max=100` on the node"), "{}", granted[0]);
        assert_eq!(granted[1], "timeout 1 -> 60");
    }
}
