//! What a participant says on the data channel, and what is done about it.

use std::time::Instant;

use weir_shard::Command;
use weir_signal::{
    channel::{
        ChannelError, Description, DescriptionKind, FromClient, ToClient, TrackName, TrackRequest,
    },
    metadata::StreamMetadata,
    sdp::SdpError,
};

use super::{
    Happened, OfferReceived, OfferSent, Output, ParticipantId, Refusal, conference::Conference,
    limits, mapping, shared::Shared,
};

const SUBSCRIPTION: &str = "m.call.track_subscription";
const NEGOTIATE: &str = "m.call.negotiate";
const CONNECT: &str = "m.call.connect_to_focus";

impl Conference {
    /// Takes a text message from the channel that carries signalling.
    pub(super) fn handle_text(
        &mut self,
        participant: &ParticipantId,
        text: &str,
        shared: &mut Shared,
        now: Instant,
    ) {
        let Some(leg) = self.legs.get_mut(participant) else {
            return;
        };
        if !leg.take_message(now) {
            shared.refuse(Refusal::TooManyMessages);
            return;
        }
        match FromClient::parse(text) {
            Ok(FromClient::Subscription {
                subscribe,
                unsubscribe,
            }) => {
                self.handle_subscription(participant, subscribe, &unsubscribe, shared);
            }
            Ok(FromClient::Negotiate {
                description,
                metadata,
            }) => {
                self.handle_negotiate(participant, description, metadata, shared);
            }
            Ok(FromClient::MetadataChanged(metadata)) => {
                leg.streams.handle_metadata(metadata);
                self.refresh_streams(participant, shared);
            }
            Ok(FromClient::Pong) => leg.handle_pong(),
            Ok(FromClient::Ping) => leg.send(&ToClient::Pong, shared),
            Ok(FromClient::ConnectToFocus(_)) => {
                shared.refuse(Refusal::UnknownMessage);
                leg.send_error(
                    "M_UNRECOGNIZED",
                    "this focus does not connect to others",
                    CONNECT,
                    shared,
                );
            }
            Ok(FromClient::FollowStatus) => {
                leg.subscriptions.tell_all();
                leg.status.follow(now);
            }
            Ok(FromClient::Unknown { .. }) => shared.refuse(Refusal::UnknownMessage),
            Err(error) => {
                shared.refuse(Refusal::MalformedMessage);
                if let ChannelError::Content(_) | ChannelError::TooMany(_) = error {
                    leg.send_error("M_BAD_JSON", &error.to_string(), &type_of(text), shared);
                }
            }
        }
    }

    fn handle_subscription(
        &mut self,
        participant: &ParticipantId,
        mut subscribe: Vec<TrackRequest>,
        unsubscribe: &[TrackName],
        shared: &mut Shared,
    ) {
        let Self { legs, board, .. } = self;
        let Some(leg) = legs.get_mut(participant) else {
            return;
        };
        if subscribe.len() + unsubscribe.len() > limits::TRACKS_PER_REQUEST_MAX {
            shared.refuse(Refusal::RequestTooLong);
            leg.send_error(
                "M_TOO_LARGE",
                "too many tracks in one request",
                SUBSCRIPTION,
                shared,
            );
            return;
        }
        let named = subscribe.len();
        subscribe.retain(|request| {
            board
                .track(&request.name)
                .is_none_or(|track| track.owner != *participant)
        });
        if subscribe.len() < named {
            shared.refuse(Refusal::OwnTrack);
            leg.send_error(
                "M_INVALID_PARAM",
                "a participant's own track cannot be subscribed to",
                SUBSCRIPTION,
                shared,
            );
        }
        let wanted_max = shared.settings.limits.subscriptions_per_participant_max;
        if leg
            .subscriptions
            .handle_request(subscribe, unsubscribe, wanted_max, board)
            .is_err()
        {
            shared.refuse(Refusal::TooManySubscriptions);
            leg.send_error(
                "M_LIMIT_EXCEEDED",
                "too many subscriptions",
                SUBSCRIPTION,
                shared,
            );
        }
    }

    fn handle_negotiate(
        &mut self,
        participant: &ParticipantId,
        description: Description,
        metadata: Option<StreamMetadata>,
        shared: &mut Shared,
    ) {
        let kind = description.kind;
        let answered = match kind {
            DescriptionKind::Offer => self.take_offer(participant, &description.sdp, shared),
            DescriptionKind::Answer => self
                .take_answer(participant, &description.sdp)
                .map(|()| None),
        };
        let Self { legs, board, .. } = self;
        let Some(leg) = legs.get_mut(participant) else {
            return;
        };
        count_description(kind, answered.as_ref().err(), leg.has_offered(), shared);
        match answered {
            Ok(answer) => {
                if let Some(metadata) = metadata {
                    leg.streams.handle_metadata(metadata);
                }
                leg.end_offer();
                leg.handle_agreed(board, shared);
                if let Some(answer) = answer {
                    leg.send_description(DescriptionKind::Answer, answer, board, shared);
                }
                self.refresh_streams(participant, shared);
            }
            // An answer to an offer that has been taken back; the one that took its place will be answered, too.
            Err(SdpError::NoOffer) => shared.refuse(Refusal::UnexpectedAnswer),
            Err(error) => {
                shared.refuse(Refusal::BadSdp);
                leg.send_error("M_INVALID_PARAM", &error.to_string(), NEGOTIATE, shared);
            }
        }
    }

    /// Answers an offer. The session takes an own outstanding offer back: the client is the impolite side.
    fn take_offer(
        &mut self,
        participant: &ParticipantId,
        sdp: &str,
        shared: &mut Shared,
    ) -> Result<Option<String>, SdpError> {
        let Some(leg) = self.legs.get_mut(participant) else {
            return Ok(None);
        };
        let transport = leg.transport();
        if leg.session.restarts_ice(sdp) {
            leg.session.set_local_ice(shared.ice_credentials(transport));
        }
        let offered = leg.session.handle_offer(sdp)?;
        if offered.ice_restarted
            && let Some(remote) = leg.session.remote()
        {
            let ice = mapping::ice_credentials(leg.session.local_ice(), &remote.ice);
            shared.command(leg.shard(), Command::RestartIce { id: transport, ice });
        }
        Ok(Some(offered.answer))
    }

    fn take_answer(&mut self, participant: &ParticipantId, sdp: &str) -> Result<(), SdpError> {
        match self.legs.get_mut(participant) {
            Some(leg) => leg.session.handle_answer(sdp),
            None => Ok(()),
        }
    }
}

/// Counts what became of an offer, the participant's or the focus's own.
fn count_description(
    kind: DescriptionKind,
    error: Option<&SdpError>,
    has_offered: bool,
    shared: &mut Shared,
) {
    let mut count = |happened| shared.push(Output::Happened(happened));
    match (kind, error) {
        (DescriptionKind::Offer, Some(_)) => {
            count(Happened::OfferReceived(OfferReceived::Refused));
        }
        (DescriptionKind::Offer, None) if has_offered => {
            count(Happened::OfferReceived(OfferReceived::Crossed));
            count(Happened::OfferSent(OfferSent::Crossed));
        }
        (DescriptionKind::Offer, None) => {
            count(Happened::OfferReceived(OfferReceived::Answered));
        }
        (DescriptionKind::Answer, None) => count(Happened::OfferSent(OfferSent::Answered)),
        // To an offer that has been taken back, and was counted then.
        (DescriptionKind::Answer, Some(SdpError::NoOffer)) => {}
        (DescriptionKind::Answer, Some(_)) => count(Happened::OfferSent(OfferSent::Refused)),
    }
}

/// The type of a message whose content could not be read, for the error message.
fn type_of(text: &str) -> String {
    serde_json::from_str::<serde_json::Value>(text)
        .ok()
        .and_then(|message| {
            message
                .get("type")?
                .as_str()
                .map(|kind| kind.chars().take(64).collect())
        })
        .unwrap_or_default()
}
