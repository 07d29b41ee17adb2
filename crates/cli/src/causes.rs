//! Which errors of the libraries end the program by a code of their own.

use crate::exit::Exit;

/// The code for an error whose cause is a library's, or [`Exit::Io`].
pub(crate) fn exit_of(error: &anyhow::Error) -> Exit {
    if let Some(found) = error.downcast_ref::<corewal_archive::Error>() {
        use corewal_archive::Error;
        return match found {
            Error::Fenced { .. } | Error::Diverged { .. } => Exit::Locked,
            Error::NotEmpty { .. } | Error::Unrestorable(_) | Error::Place { .. } => Exit::Usage,
            _ => Exit::Io,
        };
    }
    match error.downcast_ref::<corewal::Error>() {
        Some(corewal::Error::Locked { .. }) => Exit::Locked,
        // The command line asks for what the store is not.
        Some(corewal::Error::CoreCount { .. } | corewal::Error::OffsetsDiffer { .. }) => Exit::Usage,
        _ => Exit::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Failure;

    #[test]
    fn a_locked_store_has_a_code_of_its_own() {
        let locked = || corewal::Error::Locked { path: "LOCK".into() };
        assert_eq!(Failure::from(locked()).exit(), Exit::Locked);
        assert_eq!(Failure::from(anyhow::Error::from(locked()).context("can't open")).exit(), Exit::Locked);
        assert_eq!(Failure::from(corewal::Error::Parked).exit(), Exit::Io);
    }
}
