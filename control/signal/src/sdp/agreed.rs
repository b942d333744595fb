//! What both sides of a session have agreed on, and how an offer of the participant changes it.

use std::collections::{BTreeMap, BTreeSet};

use super::codec::SessionCodecs;
use super::extension::SessionExtensions;
use super::line::{Bundled, Line, Purpose};
use super::{Description, SdpError};

/// What the participant's descriptions have settled.
#[derive(Debug, Clone, Default)]
pub(super) struct Agreed {
    pub(super) lines: Vec<Line>,
    pub(super) codecs: SessionCodecs,
    pub(super) extensions: SessionExtensions,
    pub(super) extmap_allow_mixed: bool,
    /// Track id to the stream id it was first seen with.
    pub(super) first_streams: BTreeMap<String, String>,
}

impl Agreed {
    /// Before anything has been said between two foci: either may send whatever foci forward.
    pub(super) fn between_foci() -> Agreed {
        Agreed {
            codecs: SessionCodecs::between_foci(),
            ..Agreed::default()
        }
    }

    /// Takes an offer of the participant; on an error `self` is half done and to be dropped.
    pub(super) fn take_offer(&mut self, offer: &Description) -> Result<(), SdpError> {
        if offer.sections.len() < self.lines.len() {
            return Err(SdpError::Sections);
        }
        let mut seen = BTreeSet::new();
        let mut has_data_channel = false;
        for (index, section) in offer.sections.iter().enumerate() {
            let mid = section
                .mid
                .as_deref()
                .filter(|mid| seen.insert(*mid))
                .ok_or(SdpError::Mid)?;
            // Without any bundle the first section has the transport to itself.
            let bundled = Bundled(
                offer.bundle.iter().any(|member| member == mid)
                    || (offer.bundle.is_empty() && index == 0),
            );
            match self.lines.get_mut(index) {
                Some(line) if line.mid == mid => {
                    line.check_kind(section)?;
                    line.take_offer(section, bundled);
                }
                // A rejected section's place can be taken by a new one (RFC 9429 §5.2.2).
                Some(line) if line.rejected => *line = Line::offered(section, mid, bundled),
                Some(_) => return Err(SdpError::Sections),
                None => self.lines.push(Line::offered(section, mid, bundled)),
            }
            let line = &mut self.lines[index];
            if line.purpose == Purpose::DataChannel && !line.rejected {
                if has_data_channel {
                    line.reject();
                }
                has_data_channel = true;
            }
            if !line.rejected {
                self.codecs.learn(&section.codecs, &line.codecs);
                self.extensions.learn(&section.extmaps);
            }
        }
        self.extmap_allow_mixed = offer.extmap_allow_mixed;
        self.learn_streams();
        Ok(())
    }

    /// Notes the first stream id of every track, for as long as a section speaks of the track.
    pub(super) fn learn_streams(&mut self) {
        let named = self
            .lines
            .iter()
            .map(|line| &line.remote)
            .filter(|remote| remote.has_sent);
        let named: BTreeMap<&str, &str> = named
            .map(|remote| (remote.track_id.as_str(), remote.stream_id.as_str()))
            .collect();
        self.first_streams
            .retain(|track_id, _| named.contains_key(track_id.as_str()));
        for (track_id, stream_id) in named {
            self.first_streams
                .entry(track_id.to_owned())
                .or_insert_with(|| stream_id.to_owned());
        }
    }
}
