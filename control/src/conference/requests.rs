//! What a participant says on the data channel, and what is done about it.

use std::time::Instant;

use weir_shard::Command;
use weir_signal::{
    channel::{
        ChannelError, Description, DescriptionKind, Frame, FromClient, MessageName, ToClient,
        TrackName, TrackRequest,
    },
    metadata::StreamMetadata,
    sdp::SdpError,
};

use super::{
    Happened, OfferReceived, OfferSent, Output, ParticipantId, Refusal, conference::Conference,
    leg::Leg, limits, mapping, shared::Shared,
};

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
        let frame = match Frame::open(text) {
            Ok(frame) => frame,
            Err(error) => return refuse_message(leg, error, None, shared),
        };
        leg.handle_heard(frame.dialect(), shared, now);
        let name = frame.name();
        match FromClient::read(&frame) {
            Ok(FromClient::Unknown { .. }) if frame.is_error() => {
                shared.refuse(Refusal::UnknownMessage);
            }
            Ok(message) => self.handle_message(participant, message, &name, shared, now),
            Err(error) => refuse_message(leg, error, Some(&name), shared),
        }
    }

    /// Takes a message, which was called `name`.
    fn handle_message(
        &mut self,
        participant: &ParticipantId,
        message: FromClient,
        name: &MessageName,
        shared: &mut Shared,
        now: Instant,
    ) {
        let Some(leg) = self.legs.get_mut(participant) else {
            return;
        };
        match message {
            // A focus asks no other to connect with a third.
            FromClient::ConnectToFocus(_) | FromClient::Unknown { .. } if leg.trunk.is_some() => {
                shared.refuse(Refusal::UnknownMessage);
            }
            FromClient::ConnectToFocus(connect) => {
                let result = self.handle_connect(participant, &connect, shared, now);
                if let (Err((reason, code, error)), Some(leg)) =
                    (result, self.legs.get(participant))
                {
                    shared.refuse(reason);
                    leg.send_error(code, error, Some(name), shared);
                }
            }
            FromClient::Unknown { .. } => {
                shared.refuse(Refusal::UnknownMessage);
                let error = "this focus does not know such messages";
                leg.send_error("M_UNRECOGNIZED", error, Some(name), shared);
            }
            FromClient::Subscription {
                subscribe,
                unsubscribe,
            } => {
                self.handle_subscription(participant, subscribe, &unsubscribe, name, shared);
            }
            FromClient::Negotiate {
                description,
                metadata,
            } => {
                self.handle_negotiate(participant, description, metadata, name, shared);
            }
            FromClient::MetadataChanged(metadata) => {
                leg.handle_metadata(metadata);
                self.refresh_streams(participant, Some(name), shared);
            }
            FromClient::Pong => leg.handle_pong(),
            FromClient::Ping => leg.send(&ToClient::Pong, shared),
            FromClient::FollowStatus => {
                leg.subscriptions.tell_all();
                leg.status.follow(now);
            }
        }
    }

    fn handle_subscription(
        &mut self,
        participant: &ParticipantId,
        mut subscribe: Vec<TrackRequest>,
        unsubscribe: &[TrackName],
        message: &MessageName,
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
                Some(message),
                shared,
            );
            return;
        }
        let named = subscribe.len();
        subscribe.retain(|request| {
            board
                .track(&request.name)
                .is_none_or(|track| track.leg != *participant)
        });
        if subscribe.len() < named {
            shared.refuse(Refusal::OwnTrack);
            leg.send_error(
                "M_INVALID_PARAM",
                "a participant's own track cannot be subscribed to",
                Some(message),
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
                Some(message),
                shared,
            );
        }
        if leg.trunk.is_none() {
            self.handle_demand_changed();
        }
    }

    fn handle_negotiate(
        &mut self,
        participant: &ParticipantId,
        description: Description,
        metadata: Option<StreamMetadata>,
        message: &MessageName,
        shared: &mut Shared,
    ) {
        let kind = description.kind;
        let crosses = self
            .legs
            .get(participant)
            .is_some_and(|leg| leg.session.is_impolite() && leg.session.offer_outstanding());
        if kind == DescriptionKind::Offer && crosses {
            // The other focus drops it when it gets this one's.
            let crossed = Happened::OfferReceived(OfferReceived::Crossed);
            shared.push(Output::Happened(crossed));
            return;
        }
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
                    leg.handle_metadata(metadata);
                }
                leg.end_offer();
                leg.handle_agreed(board, shared);
                if let Some(answer) = answer {
                    leg.send_description(DescriptionKind::Answer, answer, board, shared);
                }
                self.refresh_streams(participant, Some(message), shared);
            }
            // An answer to an offer that has been taken back; the one that took its place will be answered, too.
            Err(SdpError::NoOffer) => shared.refuse(Refusal::UnexpectedAnswer),
            Err(error) => {
                shared.refuse(Refusal::BadSdp);
                leg.send_error("M_INVALID_PARAM", &error.to_string(), Some(message), shared);
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

/// Counts a message that cannot be read, and says why.
fn refuse_message(
    leg: &Leg,
    error: ChannelError,
    message: Option<&MessageName>,
    shared: &mut Shared,
) {
    shared.refuse(Refusal::MalformedMessage);
    leg.send_error(error.errcode(), &error.to_string(), message, shared);
}
