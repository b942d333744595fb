//! What keeps a run from beginning, in one line that says what to do. All of it ends the process with 2.

use std::net::SocketAddr;

/// Why nothing was measured.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Each participant has sockets.
    #[error(
        "too few file descriptors: this run needs {needed} and the limit is {limit}; raise it (`ulimit -n {needed}`, LimitNOFILE= in systemd) or ask for fewer participants"
    )]
    TooFewFiles {
        /// What the plan needs.
        needed: u64,
        /// What the process may have, at most.
        limit: u64,
    },
    /// Each participant has buffers and keys.
    #[error(
        "too little memory: this run needs about {needed_mib} MiB and {available_mib} MiB are available; ask for fewer participants or a smaller --full-share"
    )]
    TooLittleMemory {
        /// An estimate.
        needed_mib: u64,
        /// By /proc/meminfo.
        available_mib: u64,
    },
    /// Something else listens there.
    #[error(
        "port in use: {address} ({what}); stop what listens there or choose another with {flag}"
    )]
    PortInUse {
        /// What it was for.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// How to choose another.
        flag: &'static str,
    },
    /// No answer, or none that is of a homeserver.
    #[error("homeserver unreachable: {url}: {cause}; check --homeserver and that it runs")]
    HomeserverUnreachable {
        /// As given.
        url: String,
        /// What the network said.
        cause: String,
    },
    /// A login was refused.
    #[error(
        "wrong credentials: the homeserver refuses the user {user:?} ({cause}); the accounts {first:?} and so on must exist with the password of --password or --password-file, or the homeserver must let anyone register"
    )]
    WrongCredentials {
        /// Local part.
        user: String,
        /// The first of the users that are needed.
        first: String,
        /// What the homeserver said.
        cause: String,
    },
    /// Too many requests.
    #[error(
        "the homeserver limits the rate of {what}: lower --join-rate, or raise its limits for the load test (Synapse: rc_login, rc_joins, rc_message)"
    )]
    RateLimited {
        /// Of what.
        what: &'static str,
    },
    /// The room of the call.
    #[error(
        "the room {room} cannot be used: {cause}; it must be public, or every user invited to it"
    )]
    Room {
        /// Its id.
        room: String,
        /// What the homeserver said.
        cause: String,
    },
    /// The device is none of the homeserver's.
    #[error(
        "unknown device: {user} has no device {device:?} (it has {known}); check --focus-device, and that the focus runs"
    )]
    UnknownDevice {
        /// The focus's user.
        user: String,
        /// As given.
        device: String,
        /// What there is instead.
        known: String,
    },
    /// It hears nothing or says nothing.
    #[error(
        "the focus does not answer: {user} {device} said nothing to an invite within {seconds} s; check that it runs (/health/ready), and that it shares a homeserver, or federation, with the participants"
    )]
    FocusSilent {
        /// The focus's user.
        user: String,
        /// The focus's device.
        device: String,
        /// How long was waited.
        seconds: u64,
    },
    /// It says no.
    #[error("the focus rejects calls: {reason}; {hint}")]
    FocusRejects {
        /// As it said.
        reason: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// It answered, and nothing arrives.
    #[error(
        "the focus cannot be reached by UDP: it answered, but {cause}; check its media.advertise and the firewall"
    )]
    NoMedia {
        /// Where it ended.
        cause: String,
    },
    /// It was invited and did not come.
    #[error(
        "the focus did not join the room {room} that it was invited to within {seconds} s; check matrix.rooms_max in its configuration, or name a room that it is in with --room"
    )]
    FocusStaysAway {
        /// The room.
        room: String,
        /// How long was waited.
        seconds: u64,
    },
    /// There is no binary to start.
    #[error(
        "no focus to start: {path} does not exist; check --weir, or leave it out to start the focus that this program was built with"
    )]
    NoBinary {
        /// Where it was looked for.
        path: String,
    },
    /// The child process ended or never became ready.
    #[error("the focus did not start: {cause}")]
    FocusDidNotStart {
        /// Its last words.
        cause: String,
    },
    /// A value of the command line.
    #[error("{0}")]
    Usage(String),
    /// A file that is named on the command line.
    #[error("{path}: {cause}")]
    File {
        /// Its path.
        path: String,
        /// What the system said.
        cause: String,
    },
}

/// What to do about a rejection, by the reason that a focus gives.
pub fn hint(reason: &str) -> &'static str {
    // A focus says the reasons that its metric `weir_refusals_total` has, too.
    let hints = [
        (
            "not_authorised",
            "the participants must be members of the call's room as the focus sees it, or its authorisation.policy must let them in",
        ),
        (
            "too_many_participants",
            "raise limits.participants_per_conference_max in its configuration",
        ),
        (
            "too_many_conferences",
            "raise limits.conferences_max in its configuration",
        ),
        (
            "too_many_devices_of_user",
            "the last run's calls may still be there: try again in a minute",
        ),
        (
            "too_many_invites",
            "lower --join-rate or raise limits.invites_per_homeserver_per_second in its configuration",
        ),
        ("draining", "it is about to stop: wait until it is back"),
    ];
    let found = hints.iter().find(|(part, _)| reason.contains(part));
    found.map_or("its log says why", |(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_one_line_that_says_what_to_do() {
        let address = ([127, 0, 0, 1], 7882).into();
        let text = String::new;
        let faults = [
            Fault::TooFewFiles {
                needed: 4000,
                limit: 1024,
            },
            Fault::TooLittleMemory {
                needed_mib: 4000,
                available_mib: 1024,
            },
            Fault::PortInUse {
                what: "media",
                address,
                flag: "--media-port",
            },
            Fault::HomeserverUnreachable {
                url: text(),
                cause: text(),
            },
            Fault::WrongCredentials {
                user: text(),
                first: text(),
                cause: text(),
            },
            Fault::UnknownDevice {
                user: text(),
                device: text(),
                known: text(),
            },
            Fault::FocusSilent {
                user: text(),
                device: text(),
                seconds: 9,
            },
            Fault::FocusRejects {
                reason: text(),
                hint: hint("too_many_participants"),
            },
        ];
        for fault in faults {
            let text = fault.to_string();
            assert!(!text.contains('\n'), "{text}");
            assert!(
                ["raise", "ask", "stop", "check", "must"]
                    .iter()
                    .any(|verb| text.contains(verb)),
                "{text}"
            );
        }
    }
}
