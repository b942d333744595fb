//! Two associations, a virtual clock and a network between them that loses, delays and reorders.

#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weir_transport::{Association, Certificate, Event, Fingerprint, Keys, Role};

/// A small generator of numbers that look random: SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// One end and what it has said so far.
pub(crate) struct End {
    pub(crate) association: Association,
    pub(crate) events: Vec<Event>,
}

impl End {
    pub(crate) fn new(association: Association) -> End {
        End {
            association,
            events: Vec::new(),
        }
    }

    pub(crate) fn keys(&self) -> Option<&Keys> {
        self.events.iter().find_map(|event| match event {
            Event::Keys(keys) => Some(keys),
            _ => None,
        })
    }

    /// The channel that was opened first.
    pub(crate) fn channel(&self) -> Option<u16> {
        self.events.iter().find_map(|event| match event {
            Event::ChannelOpen { channel, .. } => Some(*channel),
            _ => None,
        })
    }

    pub(crate) fn texts(&self) -> Vec<&str> {
        let texts = self.events.iter().filter_map(|event| match event {
            Event::Text { text, .. } => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }
}

/// How bad the network is.
#[derive(Clone, Copy)]
pub(crate) struct Weather {
    pub(crate) loss_percent: u64,
    /// Each datagram takes 10 ms and up to so much more, so that they overtake each other.
    pub(crate) jitter_ms: u64,
}

pub(crate) const FINE: Weather = Weather {
    loss_percent: 0,
    jitter_ms: 0,
};

/// An active and a passive end.
pub(crate) struct Pair {
    pub(crate) active: End,
    pub(crate) passive: End,
    pub(crate) now: Instant,
    start: Instant,
    weather: Weather,
    random: Random,
    flying: BTreeMap<(Instant, u64), (bool, Vec<u8>)>,
    sent: u64,
}

pub(crate) struct Certificates {
    pub(crate) active: Certificate,
    pub(crate) passive: Certificate,
}

impl Certificates {
    pub(crate) fn new() -> Certificates {
        Certificates {
            active: Certificate::generate().unwrap(),
            passive: Certificate::generate().unwrap(),
        }
    }
}

impl Pair {
    pub(crate) fn new(certificates: &Certificates, weather: Weather, seed: u64) -> Pair {
        let expected = [
            certificates.active.fingerprint(),
            certificates.passive.fingerprint(),
        ];
        Pair::with_fingerprints(certificates, expected, weather, seed)
    }

    /// `expected` is what the other end is told: of the active one, of the passive one.
    pub(crate) fn with_fingerprints(
        certificates: &Certificates,
        expected: [Fingerprint; 2],
        weather: Weather,
        seed: u64,
    ) -> Pair {
        let now = Instant::now();
        let [of_active, of_passive] = expected;
        let active = Association::new(&certificates.active, Role::Active, of_passive, now);
        let passive = Association::new(&certificates.passive, Role::Passive, of_active, now);
        Pair {
            active: End::new(active),
            passive: End::new(passive),
            now,
            start: now,
            weather,
            random: Random(seed),
            flying: BTreeMap::new(),
            sent: 0,
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Runs until `done`, or for so long in virtual time. Says whether it was done.
    pub(crate) fn run(&mut self, limit: Duration, done: impl Fn(&Pair) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            self.exchange();
            if done(self) {
                return true;
            }
            let flight = self.flying.first_key_value().map(|((at, _), _)| *at);
            let timers = [
                self.active.association.poll_timeout(),
                self.passive.association.poll_timeout(),
            ];
            let Some(next) = timers.into_iter().flatten().chain(flight).min() else {
                return false;
            };
            if next > end {
                self.now = end;
                return false;
            }
            self.now = self.now.max(next);
            self.deliver();
            for end in [&mut self.active, &mut self.passive] {
                if end
                    .association
                    .poll_timeout()
                    .is_some_and(|at| at <= self.now)
                {
                    end.association.handle_timeout(self.now);
                }
            }
        }
    }

    fn exchange(&mut self) {
        for from_active in [true, false] {
            let end = if from_active {
                &mut self.active
            } else {
                &mut self.passive
            };
            while let Some(datagram) = end.association.poll_transmit() {
                // 1200, but for many small messages in one: sctp-proto does not count their padding.
                assert!(datagram.len() <= 1400, "a datagram of {}", datagram.len());
                if self.random.below(100) < self.weather.loss_percent {
                    continue;
                }
                let jitter = self.random.below(self.weather.jitter_ms + 1);
                let at = self.now + Duration::from_millis(10 + jitter);
                self.flying.insert((at, self.sent), (from_active, datagram));
                self.sent += 1;
            }
            end.events
                .extend(std::iter::from_fn(|| end.association.poll_event()));
        }
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.flying.first_entry() {
            if entry.key().0 > self.now {
                return;
            }
            let (from_active, datagram) = entry.remove();
            let to = if from_active {
                &mut self.passive
            } else {
                &mut self.active
            };
            to.association.handle_datagram(&datagram, self.now);
            self.exchange();
        }
    }

    /// Connects, and opens a channel from the active end.
    pub(crate) fn connect(&mut self, limit: Duration) -> bool {
        self.active
            .association
            .open_channel("datachannel", self.now)
            .unwrap();
        self.run(limit, |pair| {
            pair.active.channel().is_some() && pair.passive.channel().is_some()
        })
    }
}
