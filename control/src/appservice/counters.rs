//! What is counted of the application service.

use weir_shard::{labelled, metrics};

labelled! {
    /// What became of a transaction.
    pub(crate) enum TransactionResult {
        /// Its events were taken.
        Accepted => "accepted";
        /// It was taken before; the homeserver did not hear the answer.
        Duplicate => "duplicate";
        /// Without the homeserver's token, or with a wrong one.
        Unauthorised => "unauthorised";
        /// Longer than a homeserver's.
        TooLong => "too_long";
        /// It ended in the middle, or came too slowly.
        Incomplete => "incomplete";
        /// Not JSON, or no list of events.
        Malformed => "malformed";
        /// The focus is being stopped.
        NotTaken => "not_taken";
    }
}

labelled! {
    /// Whether the homeserver reached the application service when it was asked to.
    pub(crate) enum PingResult {
        /// It did.
        Reached => "reached";
        /// It did not, or did not answer.
        Failed => "failed";
    }
}

metrics! {
    /// Everything of the application service; all zero without one. Each is written by one task at a time: transactions in
    /// their turn, pings by their loop, rooms by the driver.
    pub(crate) struct AppserviceCounters {
        /// Transactions of the homeserver by what became of them.
        transactions: counter[TransactionResult; "result"] = "weir_appservice_transactions_total",
            "`accepted`: events in rooms of the homeserver. `unauthorised`: another registration than this focus's, or somebody else. `malformed`, `too_long`: report it; the homeserver repeats them for ever.";
        /// Events in accepted transactions, of whatever type.
        events: counter = "weir_appservice_events_total",
            "The homeserver's users write more; nearly all of it is passed over.";
        /// Of these, state of calls and members.
        state_events: counter = "weir_appservice_state_events_total",
            "Calls, and people who come and go.";
        /// From when the newest of a transaction's calls and members was sent, by the clock of its sender's homeserver, until the
        /// transaction was taken.
        lag: histogram(6, 20) / 1e6 = "weir_appservice_lag_seconds",
            "The homeserver pushes late: who is removed stays as much longer. After an outage of the focus it is the outage.";
        /// Whether the homeserver, asked to, reached this focus.
        pings: counter[PingResult; "result"] = "weir_appservice_pings_total",
            "`failed`: the homeserver pushes nothing; the log says why. New calls are refused, and nobody is removed.";
        /// Rooms with calls whose state is known (now).
        rooms: gauge = "weir_appservice_rooms",
            "More rooms have had calls.";
        /// Rooms whose state is being read from the homeserver (now).
        rooms_reading: gauge = "weir_appservice_reading_rooms",
            "After a start all rooms are read. If it stays up, the homeserver is slow: their calls have to wait.";
    }
}
