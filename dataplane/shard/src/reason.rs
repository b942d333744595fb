//! Why a picture or a voice is not (all) there: one word for each subscription, the same in metrics, events and the page; and
//! one for each packet that a subscriber did not get, with the stage at which it ended.
//!
//! ```text
//! received ─► bound ─► kept ─► selected ─► numbered ─► sealed ─► sent
//! └── once for each packet ─┘  └─── once for each subscriber ───┘
//! ```

use crate::labelled;

/// What lowers a subscription below what was asked for. Recorded where the decision is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Nothing: it gets what it asked for, or the best there is.
    #[default]
    None,
    /// The layer that was asked for is silent while others flow.
    LayerSilent,
    /// The subscriber's bandwidth: a lower layer, or none at all.
    Bandwidth,
}

labelled! {
    /// What a subscription gets, and if it is not all that was asked for, why. Where several hold, the one nearest to the
    /// publisher is told: nothing behind it matters before it is gone.
    pub enum Reason {
        /// It gets what was asked for.
        Flowing => "flowing";
        /// The publisher has muted the track.
        Muted => "muted";
        /// Nothing of the track has ever arrived.
        NeverSent => "never_sent";
        /// Nothing has arrived from the publisher for a while, although it is not muted.
        PublisherSilent => "publisher_silent";
        /// The subscriber has no keys or no address (yet, or any more).
        NotConnected => "not_connected";
        /// The subscriber does not take the publisher's codec.
        CodecNotTaken => "codec_not_taken";
        /// Paused: even the lowest layer is more than the subscriber's bandwidth carries.
        NoBandwidth => "no_bandwidth";
        /// A keyframe has been asked for; nothing has been sent before.
        WaitingToStart => "waiting_to_start";
        /// A keyframe of another layer has been asked for; the present one flows until it is there.
        WaitingToSwitch => "waiting_to_switch";
        /// A lower layer than asked for, because the subscriber's bandwidth carries no more.
        LittleBandwidth => "little_bandwidth";
        /// A lower layer than asked for, because that one is silent.
        LayerSilent => "layer_silent";
        /// A voice that is not among the loudest of a large conference.
        NotLoudest => "not_loudest";
    }
}

labelled! {
    /// Where a packet is on its way through the shard.
    pub enum Stage {
        /// RTP that came in.
        Received => "received";
        /// Authentic, and of a track that is known.
        Bound => "bound";
        /// Not seen before; in the history, to be sent again from there.
        Kept => "kept";
        /// To be forwarded to one subscriber.
        Selected => "selected";
        /// With the numbers that this subscriber sees.
        Numbered => "numbered";
        /// Protected, in a send buffer; those that are sent again count again.
        Sealed => "sealed";
    }
}

labelled! {
    /// Why a subscriber was not meant to get a packet. None of these is a loss.
    pub enum Withheld {
        /// Of a layer that the subscriber does not get.
        OtherLayer => "other_layer";
        /// Of a spatial or temporal layer above the one that it gets.
        Sublayer => "sublayer";
        /// Before the keyframe with which the subscription starts.
        WaitingToStart => "waiting_to_start";
        /// Of the layer that the subscription switches to, before its keyframe.
        WaitingToSwitch => "waiting_to_switch";
        /// The subscriber has no keys or no address.
        NotConnected => "not_connected";
        /// The subscription is paused: its bandwidth does not carry the lowest layer.
        NoBandwidth => "no_bandwidth";
        /// A voice that is not among the loudest of a large conference.
        NotLoudest => "not_loudest";
    }
}

labelled! {
    /// Which way a stream goes, as the participant sees it.
    pub enum Direction {
        /// From a publisher to the focus.
        Up => "up";
        /// From the focus to a subscriber.
        Down => "down";
    }
}
