//! The dependency descriptor header extension (AV1 RTP payload format, appendix A): which layers a frame belongs to, whatever the
//! codec, and whether or not the payload can be read.
//!
//! ```text
//! start · end · template id (6) · frame number (16)                                                  3 bytes, always
//! structure? · active targets? · custom indications? · custom differences? · custom chains?          5 bits, if there are more
//! [structure] [active decode targets] [indications] [frame differences] [chain differences]
//! ```
//! A [`Structure`] comes with every keyframe and explains the template ids of all frames up to the next one; who reads
//! descriptors keeps it. Of chains nothing is kept: they tell a receiver what it lacks, and a forwarder knows that.

use crate::bits::Bits;

/// Frame templates of one structure, at most.
pub const TEMPLATES_MAX: usize = 64;
/// Decode targets of one structure, at most.
pub const DECODE_TARGETS_MAX: usize = 32;
/// Spatial layers of one structure, at most; the specification has no more modes.
pub const SPATIAL_MAX: usize = 4;
/// Temporal layers of one structure, at most.
pub const TEMPORAL_MAX: usize = 8;

/// Which check of a descriptor failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Error {
    /// The extension ends within the descriptor.
    #[error("extension ends within the dependency descriptor")]
    TooShort,
    /// More templates, spatial or temporal layers than there can be.
    #[error("structure with more templates or layers than there can be")]
    BadStructure,
    /// Nothing is known about the template: its structure has not been seen, or is of another time.
    #[error("template of an unknown structure")]
    UnknownTemplate,
}

/// What a frame is to one decode target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Indication {
    /// Not part of it.
    NotPresent,
    /// Part of it, and nothing of it depends on this frame.
    Discardable,
    /// One may begin with the decode target here, if this frame can be decoded.
    Switch,
    /// Part of it.
    Required,
}

/// A frame's [`Indication`] for each decode target, two bits each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Indications(u64);

impl Indications {
    /// The indication for a decode target.
    pub const fn of(self, target: usize) -> Indication {
        match self.0 >> (2 * (target % DECODE_TARGETS_MAX)) & 3 {
            0 => Indication::NotPresent,
            1 => Indication::Discardable,
            2 => Indication::Switch,
            _ => Indication::Required,
        }
    }

    fn read(bits: &mut Bits<'_>, targets: usize) -> Option<Self> {
        (0..targets).try_fold(Self(0), |sum, target| {
            Some(Self(sum.0 | u64::from(bits.take(2)?) << (2 * target)))
        })
    }
}

/// What frames of one kind have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Template {
    spatial: u8,
    temporal: u8,
    indications: Indications,
    references: u8,
}

/// The kinds of frames of a stream, and what can be decoded of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    id_offset: u8,
    templates: [Template; TEMPLATES_MAX],
    template_count: usize,
    /// The highest spatial and temporal layer of each decode target.
    targets: [(u8, u8); DECODE_TARGETS_MAX],
    target_count: usize,
    sizes: [Option<(u16, u16)>; SPATIAL_MAX],
}

/// What the descriptor of one packet says about its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The frame's first packet.
    pub start_of_frame: bool,
    /// The frame's last packet.
    pub end_of_frame: bool,
    /// Counts the frames of all layers, wraps after 65535.
    pub frame_number: u16,
    /// The spatial layer, less than [`SPATIAL_MAX`].
    pub spatial: u8,
    /// The temporal layer, less than [`TEMPORAL_MAX`].
    pub temporal: u8,
    /// What the frame is to each decode target.
    pub indications: Indications,
    /// How many frames it is predicted from.
    pub references: u8,
    /// A bit for each decode target that is still produced, where that is said.
    pub active_targets: Option<u32>,
}

impl Descriptor {
    /// Reads the data of the extension with the structure it refers to: its own if it brings one, which is returned as well, or
    /// else the one that is `known`.
    pub fn parse(
        data: &[u8],
        known: Option<&Structure>,
    ) -> Result<(Self, Option<Structure>), Error> {
        let mut bits = Bits::new(data);
        let head = Head::read(&mut bits, data.len()).ok_or(Error::TooShort)?;
        let own = if head.structure {
            Some(Structure::read(&mut bits)?)
        } else {
            None
        };
        let structure = own.as_ref().or(known).ok_or(Error::UnknownTemplate)?;
        let descriptor = head.frame(&mut bits, structure)?;
        Ok((descriptor, own))
    }

    /// A frame that needs no other and starts a stream: the base layer of a keyframe.
    pub const fn is_intra_base(&self) -> bool {
        self.spatial == 0 && self.temporal == 0 && self.references == 0
    }
}

/// Replaces the frame number in the data of an extension, if it has one.
pub fn set_frame_number(data: &mut [u8], number: u16) {
    if let Some(place) = data.get_mut(1..3) {
        place.copy_from_slice(&number.to_be_bytes());
    }
}

/// What comes before the structure.
struct Head {
    start: bool,
    end: bool,
    template_id: u8,
    frame_number: u16,
    structure: bool,
    active_targets: bool,
    custom_indications: bool,
    custom_differences: bool,
}

impl Head {
    fn read(bits: &mut Bits<'_>, len: usize) -> Option<Self> {
        let mut head = Self {
            start: bits.flag()?,
            end: bits.flag()?,
            template_id: bits.take(6)? as u8,
            frame_number: bits.take(16)? as u16,
            structure: false,
            active_targets: false,
            custom_indications: false,
            custom_differences: false,
        };
        if len > 3 {
            head.structure = bits.flag()?;
            head.active_targets = bits.flag()?;
            head.custom_indications = bits.flag()?;
            head.custom_differences = bits.flag()?;
            // Custom chains come last, and nothing reads them.
            bits.flag()?;
        }
        Some(head)
    }

    /// Reads what comes behind the structure.
    fn frame(&self, bits: &mut Bits<'_>, structure: &Structure) -> Result<Descriptor, Error> {
        let active_targets = if self.active_targets {
            let count = structure.target_count as u32;
            Some(bits.take(count).ok_or(Error::TooShort)?)
        } else {
            None
        };
        let template = structure
            .template(self.template_id)
            .ok_or(Error::UnknownTemplate)?;
        let indications = if self.custom_indications {
            Indications::read(bits, structure.target_count).ok_or(Error::TooShort)?
        } else {
            template.indications
        };
        let references = if self.custom_differences {
            custom_references(bits).ok_or(Error::TooShort)?
        } else {
            template.references
        };
        Ok(Descriptor {
            start_of_frame: self.start,
            end_of_frame: self.end,
            frame_number: self.frame_number,
            spatial: template.spatial,
            temporal: template.temporal,
            indications,
            references,
            active_targets,
        })
    }
}

/// Counts the frame differences of a frame that has its own.
fn custom_references(bits: &mut Bits<'_>) -> Option<u8> {
    let mut count = 0u8;
    loop {
        let size = bits.take(2)?;
        if size == 0 {
            return Some(count);
        }
        bits.skip(4 * size as usize)?;
        count = count.saturating_add(1);
    }
}

impl Structure {
    /// How many decode targets there are.
    pub const fn target_count(&self) -> usize {
        self.target_count
    }

    /// The highest spatial and temporal layer of a decode target.
    pub fn target(&self, index: usize) -> Option<(u8, u8)> {
        self.targets[..self.target_count].get(index).copied()
    }

    /// The size of the pictures of a spatial layer, if the structure says it.
    pub fn size(&self, spatial: u8) -> Option<(u16, u16)> {
        self.sizes.get(usize::from(spatial)).copied().flatten()
    }

    /// The highest spatial layer, and the highest temporal layer of any.
    pub fn highest(&self) -> (u8, u8) {
        let templates = self.templates[..self.template_count].iter();
        templates.fold((0, 0), |(spatial, temporal), template| {
            (
                spatial.max(template.spatial),
                temporal.max(template.temporal),
            )
        })
    }

    fn template(&self, id: u8) -> Option<&Template> {
        let index = (id + 64 - self.id_offset) % 64;
        self.templates[..self.template_count].get(usize::from(index))
    }

    fn read(bits: &mut Bits<'_>) -> Result<Self, Error> {
        let mut structure = Self {
            id_offset: bits.take(6).ok_or(Error::TooShort)? as u8,
            templates: [Template::default(); TEMPLATES_MAX],
            template_count: 0,
            targets: [(0, 0); DECODE_TARGETS_MAX],
            target_count: bits.take(5).ok_or(Error::TooShort)? as usize + 1,
            sizes: [None; SPATIAL_MAX],
        };
        structure.read_layers(bits)?;
        structure.read_templates(bits).ok_or(Error::TooShort)?;
        structure.skip_chains(bits).ok_or(Error::TooShort)?;
        structure.note_targets();
        structure.read_sizes(bits).ok_or(Error::TooShort)?;
        Ok(structure)
    }

    fn read_layers(&mut self, bits: &mut Bits<'_>) -> Result<(), Error> {
        let (mut spatial, mut temporal) = (0u8, 0u8);
        loop {
            let place = self
                .templates
                .get_mut(self.template_count)
                .ok_or(Error::BadStructure)?;
            (place.spatial, place.temporal) = (spatial, temporal);
            self.template_count += 1;
            match bits.take(2).ok_or(Error::TooShort)? {
                0 => {}
                1 => temporal += 1,
                2 => (spatial, temporal) = (spatial + 1, 0),
                _ => return Ok(()),
            }
            if usize::from(spatial) >= SPATIAL_MAX || usize::from(temporal) >= TEMPORAL_MAX {
                return Err(Error::BadStructure);
            }
        }
    }

    fn read_templates(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        let targets = self.target_count;
        let templates = &mut self.templates[..self.template_count];
        for template in templates.iter_mut() {
            template.indications = Indications::read(bits, targets)?;
        }
        for template in templates {
            while bits.flag()? {
                bits.skip(4)?;
                template.references = template.references.saturating_add(1);
            }
        }
        Some(())
    }

    fn skip_chains(&self, bits: &mut Bits<'_>) -> Option<()> {
        let chains = bits.non_symmetric(self.target_count as u32 + 1)?;
        if chains == 0 {
            return Some(());
        }
        for _ in 0..self.target_count {
            bits.non_symmetric(chains)?;
        }
        bits.skip(4 * self.template_count * chains as usize)
    }

    /// A decode target reaches as high as the frames that are part of it.
    fn note_targets(&mut self) {
        for (index, target) in self.targets[..self.target_count].iter_mut().enumerate() {
            for template in &self.templates[..self.template_count] {
                if template.indications.of(index) != Indication::NotPresent {
                    target.0 = target.0.max(template.spatial);
                    target.1 = target.1.max(template.temporal);
                }
            }
        }
    }

    fn read_sizes(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        if !bits.flag()? {
            return Some(());
        }
        let spatial = usize::from(self.highest().0);
        for size in &mut self.sizes[..=spatial] {
            // One less than the side; a side of 65536 is one pixel more than can be said here.
            let (width, height) = (bits.take(16)? as u16, bits.take(16)? as u16);
            *size = Some((width.saturating_add(1), height.saturating_add(1)));
        }
        Some(())
    }
}
