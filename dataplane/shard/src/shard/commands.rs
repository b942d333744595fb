//! What control asks for: transports, keys, tracks and subscriptions come and go.

use std::time::Instant;

use weir_srtp::{MasterKey, Profile};
use weir_wire::ExtSeq;

use crate::command::{AddTrack, Command, IceCredentials, Subscribe};
use crate::counters::DropReason;
use crate::ice::Ice;
use crate::ids::{ExtensionIds, MediaKind, Purpose, Size, SubscriptionId, TrackId, TransportId};
use crate::limits::{SUBSCRIPTIONS_PER_TRACK, USED_SSRCS_MAX};
use crate::publisher::Track;
use crate::shard::Shard;
use crate::subscription::{FirstNumbers, Subscription};
use crate::transport::{Feeds, NONE, Transport};

impl Shard {
    pub(super) fn command(&mut self, command: Command, now: Instant) {
        match command {
            Command::AddTransport { id, ice, is_trunk } => {
                self.add_transport(id, ice, is_trunk, now);
            }
            Command::RestartIce { id, ice } => self.restart_ice(id, ice, now),
            Command::CheckRemotes { id, remotes } => self.check_remotes(id, &remotes, now),
            Command::InstallKeys {
                id,
                profile,
                local,
                remote,
            } => self.install_keys(id, profile, &local, &remote, now),
            Command::SendDatagram { id, datagram } => self.send_datagram(id, &datagram),
            Command::MeasureTransport { id } => self.measure_transport(id, now),
            Command::RemoveTransport { id } => self.remove_transport(id, now),
            Command::AddTrack(add) => self.add_track(add, now),
            Command::UpdateTrack {
                track,
                purpose,
                size,
                muted,
            } => self.update_track(track, purpose, size, muted, now),
            Command::RemoveTrack { track } => self.remove_track(track, now),
            Command::Subscribe(subscribe) => self.subscribe(subscribe, now),
            Command::SetWanted { id, wanted } => self.set_wanted(id, wanted, now),
            Command::Unsubscribe { id } => self.unsubscribe(id, now),
        }
    }

    pub(super) fn transport(&self, id: TransportId) -> Option<u32> {
        let index = self.transport_ids.get(&id).copied();
        self.known(index)
    }

    /// Counts what is not there.
    fn known<T>(&self, index: Option<T>) -> Option<T> {
        if index.is_none() {
            self.counters.unknown_ids.add(1);
        }
        index
    }

    fn add_transport(
        &mut self,
        id: TransportId,
        ice: IceCredentials,
        is_trunk: bool,
        now: Instant,
    ) {
        let taken = self.transport_ids.contains_key(&id)
            || self.ufrags.contains_key(ice.local_ufrag.as_str());
        if taken || self.transports.is_full() {
            return self.counters.commands_refused.add(1);
        }
        let ufrag = ice.local_ufrag.clone().into_boxed_str();
        let report_ssrc = self.numbers.next() as u32;
        let transport = Transport::new(id, Ice::new(ice, now), is_trunk, report_ssrc, now);
        let Some(index) = self.transports.insert(transport) else {
            return;
        };
        self.transport_ids.insert(id, index);
        self.ufrags.insert(ufrag, index);
        if let Some(at) = self
            .transports
            .get(index)
            .and_then(|transport| transport.ice.poll_timeout())
        {
            self.wake_at(at);
        }
    }

    fn restart_ice(&mut self, id: TransportId, ice: IceCredentials, now: Instant) {
        let Some(index) = self.transport(id) else {
            return;
        };
        if self.ufrags.contains_key(ice.local_ufrag.as_str()) {
            return self.counters.commands_refused.add(1);
        }
        self.ufrags
            .insert(ice.local_ufrag.clone().into_boxed_str(), index);
        let Some(transport) = self.transports.get_mut(index) else {
            return;
        };
        if let Some(unused) = transport.ice.restart(ice) {
            self.ufrags.remove(unused.as_str());
        }
        self.look_again(index, now);
    }

    fn install_keys(
        &mut self,
        id: TransportId,
        profile: Profile,
        local: &MasterKey,
        remote: &MasterKey,
        now: Instant,
    ) {
        let Some(index) = self.transport(id) else {
            return;
        };
        if local.profile() != profile || remote.profile() != profile {
            return self.counters.commands_refused.add(1);
        }
        let Some(transport) = self.transports.get_mut(index) else {
            return;
        };
        if transport.sender.is_some() {
            // The same keys with the counters at zero would break the cipher; other keys come with another transport.
            return self.counters.commands_refused.add(1);
        }
        transport.install_keys(local, remote);
        self.choose_for_subscriber(index, now);
    }

    /// A subscriber can be sent to from now on: what it waits for is asked for.
    pub(super) fn choose_for_subscriber(&mut self, transport: u32, now: Instant) {
        let count = self
            .transports
            .get(transport)
            .map_or(0, |transport| transport.subscriptions.len());
        for at in 0..count {
            let of = self.transports.get(transport);
            let Some(index) = of.and_then(|transport| transport.subscriptions.get(at).copied())
            else {
                break;
            };
            self.choose_layer(index, now);
        }
    }

    fn send_datagram(&mut self, id: TransportId, datagram: &[u8]) {
        let Some(index) = self.transport(id) else {
            return;
        };
        let Some(of) = self.transports.get(index) else {
            return;
        };
        match of.ice.selected() {
            Some(path) => {
                of.count_sent(datagram.len(), &self.counters);
                self.send_plain(path, datagram);
            }
            None => self.counters.count_drop(DropReason::NotReady),
        }
    }

    fn remove_transport(&mut self, id: TransportId, now: Instant) {
        let Some(index) = self.transport(id) else {
            return;
        };
        let Some(transport) = self.transports.get_mut(index) else {
            return;
        };
        let (tracks, subscriptions) = (transport.tracks.clone(), transport.subscriptions.clone());
        tracks
            .into_iter()
            .for_each(|track| self.drop_track(track, now));
        subscriptions
            .into_iter()
            .for_each(|subscription| self.drop_subscription(subscription));
        self.forget_waiting(index);
        let Some(mut transport) = self.transports.remove(index) else {
            return;
        };
        self.transport_ids.remove(&id);
        for ufrag in transport.ice.local_ufrags() {
            self.ufrags.remove(ufrag);
        }
        for path in transport.ice.take_paths() {
            self.paths.remove(&path);
        }
        if transport.ice.controlling().is_some() {
            self.release_paths(index);
        }
    }

    /// Lets go of packets that wait for a transport which is about to go.
    fn forget_waiting(&mut self, transport: u32) {
        let Some(of) = self.transports.get_mut(transport) else {
            return;
        };
        let (mut next, _) = std::mem::replace(&mut of.queue, (NONE, NONE));
        while let Some(waiting) = self.tx.get(next) {
            self.packets.release(waiting.slot);
            next = waiting.next;
        }
    }

    fn add_track(&mut self, add: AddTrack, now: Instant) {
        let Some(transport) = self.transport(add.transport) else {
            return;
        };
        let id = add.track;
        if self.track_ids.contains_key(&id) || self.tracks.is_full() {
            return self.counters.commands_refused.add(1);
        }
        let extensions = add.extensions;
        let track = Track::new(add, transport, now);
        let Some(index) = track.and_then(|track| self.tracks.insert(track)) else {
            return self.counters.commands_refused.add(1);
        };
        self.track_ids.insert(id, index);
        if let Some(transport) = self.transports.get_mut(transport) {
            transport.tracks.push(index);
            merge(&mut transport.extensions, extensions);
            let tracks = transport.tracks.iter();
            let layers = tracks.filter_map(|track| Some(self.tracks.get(*track)?.layers.len()));
            transport.expect_layers(layers.sum());
        }
        self.place_voice(index, now);
    }

    fn update_track(
        &mut self,
        id: TrackId,
        purpose: Purpose,
        size: Option<Size>,
        muted: bool,
        now: Instant,
    ) {
        let index = self.track_ids.get(&id).copied();
        let Some(index) = self.known(index) else {
            return;
        };
        let Some(track) = self.tracks.get_mut(index) else {
            return;
        };
        let unmuted = track.muted && !muted;
        track.purpose = purpose;
        track.signalled = size;
        track.muted = muted;
        self.place_voice(index, now);
        self.choose_layers(index, now);
        if unmuted {
            self.want_keyframes_in_use(index, now);
        }
    }

    /// After a pause, decoders may have given up: what is watched starts with a keyframe. It is asked for when packets come.
    fn want_keyframes_in_use(&mut self, track: u32, now: Instant) {
        let Some(of) = self
            .tracks
            .get(track)
            .filter(|of| of.kind == MediaKind::Video)
        else {
            return;
        };
        let mut watched = [false; crate::limits::LAYERS_MAX];
        for index in &of.subscriptions {
            if let Some(target) = self.subscriptions.get(*index).and_then(|of| of.target) {
                watched[target.layer] = true;
            }
        }
        for layer in (0..watched.len()).filter(|layer| watched[*layer]) {
            if let Some(source) = self.source_of(track, layer) {
                self.want_keyframe(source, now);
            }
        }
    }

    fn remove_track(&mut self, id: TrackId, now: Instant) {
        let index = self.track_ids.get(&id).copied();
        if let Some(index) = self.known(index) {
            self.drop_track(index, now);
        }
    }

    fn drop_track(&mut self, index: u32, now: Instant) {
        self.leave_voice(index, now);
        let Some(track) = self.tracks.get_mut(index) else {
            return;
        };
        let subscriptions = std::mem::take(&mut track.subscriptions);
        let sources: Vec<u32> = track
            .layers
            .iter()
            .filter_map(|layer| layer.source)
            .collect();
        subscriptions
            .into_iter()
            .for_each(|subscription| self.drop_subscription(subscription));
        sources
            .into_iter()
            .for_each(|source| self.remove_source(source));
        let Some(track) = self.tracks.remove(index) else {
            return;
        };
        self.track_ids.remove(&track.id);
        let Some(transport) = self.transports.get_mut(track.transport) else {
            return;
        };
        transport.tracks.retain(|of| *of != index);
        for stream in &mut transport.streams {
            if stream.feeds == (Feeds::Retired { track: index }) {
                // The same SSRC may feed a track again when the media section comes back.
                stream.feeds = Feeds::Nothing;
            }
        }
    }

    fn subscribe(&mut self, subscribe: Subscribe, now: Instant) {
        let Some(transport) = self.transport(subscribe.transport) else {
            return;
        };
        let track = self.track_ids.get(&subscribe.track).copied();
        let Some(track) = self.known(track) else {
            return;
        };
        let Some(of) = self.tracks.get(track) else {
            return;
        };
        let id = subscribe.id;
        let (ssrc, rtx_ssrc) = (subscribe.ssrc, subscribe.rtx_ssrc);
        let taken = self.subscription_ids.contains_key(&id)
            || self.ssrc_taken(transport, ssrc)
            || rtx_ssrc.is_some_and(|rtx| rtx == ssrc || self.ssrc_taken(transport, rtx));
        let full =
            self.subscriptions.is_full() || of.subscriptions.len() >= SUBSCRIPTIONS_PER_TRACK;
        if taken || full {
            return self.counters.commands_refused.add(1);
        }
        let kind = of.kind;
        let media = self.first_number(transport, ssrc);
        let rtx = rtx_ssrc.map(|ssrc| self.first_number(transport, ssrc));
        let (Some(media), None | Some(Some(_))) = (media, rtx) else {
            return self.counters.commands_refused.add(1);
        };
        let first = FirstNumbers {
            media,
            rtx: rtx.flatten(),
        };
        let subscription = Subscription::new(subscribe, track, transport, kind, first, now);
        let Some(index) = subscription.and_then(|of| self.subscriptions.insert(of)) else {
            return self.counters.commands_refused.add(1);
        };
        self.subscription_ids.insert(id, index);
        if let Some(of) = self.tracks.get_mut(track) {
            of.subscriptions.push(index);
        }
        if let Some(of) = self.transports.get_mut(transport) {
            of.subscriptions.push(index);
            of.bandwidth.begin(now);
        }
        self.choose_layer(index, now);
        self.look_at_layers(track, now);
    }

    /// Whether the subscriber is already sent something under this SSRC: two streams of one number break the cipher.
    fn ssrc_taken(&self, transport: u32, ssrc: u32) -> bool {
        let Some(of) = self.transports.get(transport) else {
            return false;
        };
        let mut subscriptions = of
            .subscriptions
            .iter()
            .filter_map(|index| self.subscriptions.get(*index));
        subscriptions.any(|of| of.ssrc == ssrc || of.rtx.is_some_and(|rtx| rtx.ssrc == ssrc))
    }

    /// The number that a new subscription starts with. `None` when too many SSRCs have been used up to know.
    fn first_number(&mut self, transport: u32, ssrc: u32) -> Option<ExtSeq> {
        // In the lower half, so that packets which change places with the first do not wrap below zero (RFC 3711 §3.3.1).
        let random = ExtSeq(self.numbers.next() & 0x7fff);
        let of = self.transports.get(transport)?;
        match of.used_ssrcs.iter().find(|(used, _)| *used == ssrc) {
            Some((_, free)) => Some(*free),
            None => {
                let in_use = 2 * of.subscriptions.len();
                (of.used_ssrcs.len() + in_use < USED_SSRCS_MAX).then_some(random)
            }
        }
    }

    fn set_wanted(&mut self, id: SubscriptionId, wanted: Option<Size>, now: Instant) {
        let index = self.subscription_ids.get(&id).copied();
        let Some(index) = self.known(index) else {
            return;
        };
        let Some(subscription) = self.subscriptions.get_mut(index) else {
            return;
        };
        subscription.wanted = wanted;
        let track = subscription.track;
        self.choose_layer(index, now);
        self.look_at_layers(track, now);
    }

    fn unsubscribe(&mut self, id: SubscriptionId, now: Instant) {
        let index = self.subscription_ids.get(&id).copied();
        if let Some(index) = self.known(index) {
            let transport = self.subscriptions.get(index).map(|of| of.transport);
            self.drop_subscription(index);
            if let Some(transport) = transport {
                self.allocate_soon(transport, now);
            }
        }
    }

    fn drop_subscription(&mut self, index: u32) {
        let Some(subscription) = self.subscriptions.remove(index) else {
            return;
        };
        self.subscription_ids.remove(&subscription.id);
        if let Some(track) = self.tracks.get_mut(subscription.track) {
            track.subscriptions.retain(|of| *of != index);
        }
        let Some(transport) = self.transports.get_mut(subscription.transport) else {
            return;
        };
        transport.subscriptions.retain(|of| *of != index);
        if let Some(last) = subscription.rewriter.last() {
            transport.note_used(subscription.ssrc, last.seq.add(1));
        }
        if let Some(rtx) = subscription.rtx {
            transport.note_used(rtx.ssrc, rtx.next);
        }
    }
}

/// Takes the ids of another media section of the same bundle.
fn merge(own: &mut ExtensionIds, other: ExtensionIds) {
    own.mid = other.mid.or(own.mid);
    own.rid = other.rid.or(own.rid);
    own.repaired_rid = other.repaired_rid.or(own.repaired_rid);
    own.transport_cc = other.transport_cc.or(own.transport_cc);
    own.audio_level = other.audio_level.or(own.audio_level);
    own.abs_send_time = other.abs_send_time.or(own.abs_send_time);
    own.video_orientation = other.video_orientation.or(own.video_orientation);
    own.dependency_descriptor = other.dependency_descriptor.or(own.dependency_descriptor);
}
