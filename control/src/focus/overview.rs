//! What `/conferences` says: who is connected where, and what flows. Only where the configuration asks for it.
//!
//! Once a second the document is written anew, and the shards are asked what has gone over the transports in it since they began; the
//! next document has the rates. So nothing is counted for this alone, and what it costs is bounded by what is shown.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use tokio::sync::watch;
use weir_shard::{Command, Flow, Traffic, TransportId};

use super::driver::Driver;
use crate::conference::{Connected, Overview, ParticipantId, Tracks};

/// Writes the document, and remembers what it takes.
pub(super) struct OverviewTeller {
    focus: ParticipantId,
    document: watch::Sender<String>,
    /// Of the transports in the last document, as far as they have been measured.
    measured: BTreeMap<TransportId, Measured>,
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    traffic: Traffic,
    /// Since the measurement before; `None` after the first.
    rates: Option<Rates>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rates {
    to: Rate,
    from: Rate,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rate {
    packets_per_second: u64,
    bits_per_second: u64,
}

impl OverviewTeller {
    pub(super) fn new(focus: ParticipantId, document: watch::Sender<String>) -> Self {
        Self {
            focus,
            document,
            measured: BTreeMap::new(),
        }
    }

    /// Publishes what is known; gives the transports of it, each with its shard, that are to be measured for the next time.
    fn tell(&mut self, overview: &Overview) -> Vec<(usize, TransportId)> {
        let document = json!({"foci": [self.focus(overview)]});
        // Whoever does not listen any more does not miss it.
        self.document.send_replace(document.to_string());
        let conferences = overview.conferences.iter();
        let connected = conferences.flat_map(|of| {
            let trunks = of.trunks.iter().map(|(_, trunk)| trunk);
            of.participants.iter().chain(trunks)
        });
        let places: Vec<_> = connected.filter_map(|of| of.place).collect();
        let mut before = std::mem::take(&mut self.measured);
        let shown = places.iter();
        self.measured = shown
            .filter_map(|(_, id)| before.remove_entry(id))
            .collect();
        places
    }

    /// Takes a shard's answer.
    fn handle_measured(&mut self, id: TransportId, traffic: Traffic) {
        let before = self.measured.get(&id).map(|of| of.traffic);
        let rates = before.and_then(|before| Rates::between(&before, &traffic));
        self.measured.insert(id, Measured { traffic, rates });
    }

    fn focus(&self, overview: &Overview) -> Value {
        let conferences = overview.conferences.iter().map(|of| {
            let participants: Vec<Value> = of
                .participants
                .iter()
                .map(|participant| self.connected(participant))
                .collect();
            let trunks = of.trunks.iter().map(|(state, trunk)| {
                let mut value = self.connected(trunk);
                value["state"] = state.label().into();
                value
            });
            json!({
                "conference": of.name,
                "participants": participants,
                "trunks": trunks.collect::<Vec<_>>(),
            })
        });
        json!({
            "user_id": self.focus.user_id,
            "device_id": self.focus.device_id,
            "state": "up",
            "conferences": conferences.collect::<Vec<_>>(),
            "left_out": overview.left_out,
        })
    }

    fn connected(&self, of: &Connected) -> Value {
        let measured = of.place.and_then(|(_, id)| self.measured.get(&id));
        let traffic = measured.map(|of| of.traffic);
        let rates = measured.and_then(|of| of.rates);
        let round_trip = traffic.and_then(|of| of.round_trip);
        json!({
            "user_id": of.id.user_id,
            "device_id": of.id.device_id,
            "to": direction(of.to, rates.map(|of| of.to), traffic.map(|of| of.sent)),
            "from": direction(of.from, rates.map(|of| of.from), traffic.map(|of| of.received)),
            "round_trip_ms": round_trip.map(|of| of.as_micros() as f64 / 1000.0),
        })
    }
}

fn direction(tracks: Tracks, rate: Option<Rate>, flow: Option<Flow>) -> Value {
    let lost = flow.and_then(|flow| flow.lost);
    json!({
        "audio": tracks.audio,
        "video": tracks.video,
        "packets_per_second": rate.map(|of| of.packets_per_second),
        "bits_per_second": rate.map(|of| of.bits_per_second),
        "lost": lost.map(|lost| f64::from(lost) / 256.0),
    })
}

impl Rates {
    /// `None` where no time lies between.
    fn between(before: &Traffic, after: &Traffic) -> Option<Self> {
        let time = after.at.checked_duration_since(before.at)?;
        if time.is_zero() {
            return None;
        }
        Some(Self {
            to: Rate::between(&before.sent, &after.sent, time),
            from: Rate::between(&before.received, &after.received, time),
        })
    }
}

impl Rate {
    fn between(before: &Flow, after: &Flow, time: Duration) -> Self {
        let per_second = |count: u64| (count as f64 / time.as_secs_f64()).round() as u64;
        Self {
            packets_per_second: per_second(after.packets.saturating_sub(before.packets)),
            bits_per_second: 8 * per_second(after.bytes.saturating_sub(before.bytes)),
        }
    }
}

impl Driver {
    /// Writes the document anew, if there is to be one.
    pub(super) fn tell_overview(&mut self) {
        let Some(teller) = &mut self.overview else {
            return;
        };
        for (shard, id) in teller.tell(&self.conferences.overview()) {
            self.shards[shard].send(Command::MeasureTransport { id });
        }
    }

    /// Takes a shard's answer.
    pub(super) fn note_measured(&mut self, id: TransportId, traffic: Traffic) {
        if let Some(teller) = &mut self.overview {
            teller.handle_measured(id, traffic);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::conference::{ConferenceOverview, TrunkState};

    fn connected(name: &str, transport: Option<u32>) -> Connected {
        Connected {
            id: ParticipantId::new(format!("@{name}:x"), "D"),
            place: transport.map(|id| (1, TransportId(id))),
            to: Tracks { audio: 2, video: 3 },
            from: Tracks { audio: 1, video: 0 },
        }
    }

    fn overview() -> Overview {
        Overview {
            conferences: vec![ConferenceOverview {
                name: "00ff".into(),
                participants: vec![connected("alice", Some(7))],
                trunks: vec![
                    (TrunkState::Up, connected("focus2", Some(8))),
                    (TrunkState::Lost, connected("focus3", None)),
                ],
            }],
            left_out: 4,
        }
    }

    fn traffic(at: Instant, packets: u64, lost: Option<u8>) -> Traffic {
        let flow = |packets| Flow {
            packets,
            bytes: packets * 1000,
            lost,
        };
        Traffic {
            at,
            sent: flow(packets),
            received: flow(2 * packets),
            round_trip: lost.map(|_| Duration::from_micros(12_500)),
        }
    }

    fn teller() -> (OverviewTeller, watch::Receiver<String>) {
        let (document, published) = watch::channel(String::new());
        let focus = ParticipantId::new("@focus:x", "WEIR");
        (OverviewTeller::new(focus, document), published)
    }

    fn read(published: &watch::Receiver<String>) -> Value {
        serde_json::from_str(&published.borrow()).expect("JSON")
    }

    #[test]
    fn says_who_is_connected_before_anything_is_measured() {
        let (mut teller, published) = teller();
        let places = teller.tell(&overview());
        assert_eq!(places, [(1, TransportId(7)), (1, TransportId(8))]);
        let nothing = json!({"packets_per_second": null, "bits_per_second": null, "lost": null});
        let with = |audio: usize, video: usize| {
            let mut value = nothing.clone();
            (value["audio"], value["video"]) = (audio.into(), video.into());
            value
        };
        let leg = |user_id: &str| json!({"user_id": user_id, "device_id": "D", "to": with(2, 3), "from": with(1, 0), "round_trip_ms": null});
        let trunk = |user_id: &str, state: &str| {
            let mut value = leg(user_id);
            value["state"] = state.into();
            value
        };
        let conference = json!({
            "conference": "00ff",
            "participants": [leg("@alice:x")],
            "trunks": [trunk("@focus2:x", "up"), trunk("@focus3:x", "lost")],
        });
        let focus = json!({
            "user_id": "@focus:x", "device_id": "WEIR", "state": "up", "conferences": [conference], "left_out": 4,
        });
        assert_eq!(read(&published), json!({"foci": [focus]}));
    }

    #[test]
    fn rates_are_what_went_between_two_measurements() {
        let (mut teller, published) = teller();
        let start = Instant::now();
        teller.tell(&overview());
        teller.handle_measured(TransportId(8), traffic(start, 1000, None));
        teller.tell(&overview());
        let trunk = |published: &watch::Receiver<String>| {
            read(published)["foci"][0]["conferences"][0]["trunks"][0].take()
        };
        assert_eq!(trunk(&published)["to"]["packets_per_second"], Value::Null);
        let after = start + Duration::from_millis(500);
        teller.handle_measured(TransportId(8), traffic(after, 1100, Some(64)));
        teller.tell(&overview());
        let shown = trunk(&published);
        assert_eq!(
            shown["to"],
            json!({"audio": 2, "video": 3, "packets_per_second": 200, "bits_per_second": 1_600_000, "lost": 0.25})
        );
        assert_eq!(shown["from"]["packets_per_second"], 400);
        assert_eq!(shown["round_trip_ms"], 12.5);
    }

    #[test]
    fn nothing_is_kept_of_what_is_not_shown_any_more() {
        let (mut teller, published) = teller();
        teller.tell(&overview());
        for id in [7, 8, 9] {
            teller.handle_measured(TransportId(id), traffic(Instant::now(), 1, None));
        }
        teller.tell(&overview());
        assert_eq!(teller.measured.len(), 2);
        teller.tell(&Overview::default());
        assert_eq!(teller.measured.len(), 0);
        assert_eq!(read(&published)["foci"][0]["conferences"], json!([]));
    }
}
