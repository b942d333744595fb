//! What conferences tell to be counted, beside refusals.

use weir_shard::labelled;

use super::HangupReason;

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// An invite was dealt with.
    Invite(InviteResult),
    /// A participant offered a description.
    OfferReceived(OfferReceived),
    /// An offer of the focus has ended.
    OfferSent(OfferSent),
    /// A call has ended.
    CallEnded(CallEnd),
    /// Something about a trunk.
    Trunk(TrunkEvent),
}

labelled! {
    /// What happens to trunks.
    pub enum TrunkEvent {
        /// This focus has called another one.
        Called => "called";
        /// Another focus has called, and was answered.
        Accepted => "accepted";
        /// The channel between the two is open.
        Up => "up";
        /// A trunk, or the call for one, has ended.
        Ended => "ended";
    }
}

labelled! {
    /// What became of an invite.
    pub enum InviteResult {
        /// Answered; the call begins.
        Accepted => "accepted";
        /// Rejected with a reason, which is among the refusals.
        Refused => "refused";
        /// Left without an answer: a duplicate, too old, or one of too many.
        Ignored => "ignored";
    }
}

labelled! {
    /// What became of a participant's offer.
    pub enum OfferReceived {
        /// Answered, and no offer of the focus was outstanding.
        Answered => "answered";
        /// Answered; an outstanding offer of the focus was taken back for it (glare).
        Crossed => "crossed";
        /// Its SDP cannot be used.
        Refused => "refused";
    }
}

labelled! {
    /// What became of an offer of the focus. Those that are outstanding when a call ends are not among them.
    pub enum OfferSent {
        /// Answered.
        Answered => "answered";
        /// Taken back for an offer of the participant (glare).
        Crossed => "crossed";
        /// An answer's SDP cannot be used. The offer stays outstanding.
        Refused => "refused";
        /// No answer in time; it is made again.
        Unanswered => "unanswered";
    }
}

labelled! {
    /// Why a call ended.
    pub enum CallEnd {
        /// The participant hung up or closed its transport.
        Left => "left";
        /// The same device called again.
        Replaced => "replaced";
        /// No pong in time, or the data channel never opened.
        KeepAliveTimeout => "keep_alive_timeout";
        /// The transport is gone.
        IceFailed => "ice_failed";
        /// The user left the call or the room, or was removed.
        Removed => "removed";
        /// The focus stops.
        Restarting => "restarting";
        /// Offers were never answered.
        OffersUnanswered => "offers_unanswered";
        /// A slot that no media followed in time.
        SlotExpired => "slot_expired";
    }
}

impl From<Option<HangupReason>> for CallEnd {
    /// Without a reason nobody is told: the participant did it.
    fn from(reason: Option<HangupReason>) -> Self {
        match reason {
            None => Self::Left,
            Some(HangupReason::KeepAliveTimeout) => Self::KeepAliveTimeout,
            Some(HangupReason::IceFailed) => Self::IceFailed,
            Some(HangupReason::UserHangup) => Self::Removed,
            Some(HangupReason::Restarting) => Self::Restarting,
            Some(HangupReason::UnknownError) => Self::OffersUnanswered,
            Some(HangupReason::SlotExpired) => Self::SlotExpired,
        }
    }
}
