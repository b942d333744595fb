use weir_wire::dependency::{Descriptor, Error, Indication, Structure, set_frame_number};

use crate::{Random, hex};

/// Writes numbers of some bits, as the specification lists them.
#[derive(Default)]
struct Bits(Vec<bool>);

impl Bits {
    fn put(mut self, count: u32, value: u32) -> Self {
        self.0
            .extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| {
            let filled = bits.iter().chain([&false; 8]).take(8);
            filled.fold(0, |byte, bit| byte << 1 | u8::from(*bit))
        };
        self.0.chunks(8).map(byte).collect()
    }
}

/// The first packet of a keyframe of two spatial layers with two temporal layers each, 320×180 and 640×360. Template ids begin at
/// 62, so that they wrap.
fn keyframe() -> Vec<u8> {
    // Start and end of a frame with template 62, number 0x1234; a structure follows.
    let head = Bits::default()
        .put(1, 1)
        .put(1, 1)
        .put(6, 62)
        .put(16, 0x1234);
    let head = head.put(5, 0b10000);
    // Ids from 62, four decode targets; layers S0T0 S0T0 S0T1 S1T0 S1T0 S1T1.
    let layers = head.put(6, 62).put(5, 3);
    let layers = [0, 1, 2, 0, 1, 3]
        .into_iter()
        .fold(layers, |bits, next| bits.put(2, next));
    // Indications: - 0, D 1, S 2, R 3, for the targets S0T0, S0T1, S1T0, S1T1.
    let kinds = ["SSSS", "SSRR", "-D-R", "--SS", "--RR", "---D"];
    let kinds = kinds.iter().flat_map(|kind| kind.chars());
    let indications = kinds.fold(layers, |bits, kind| {
        bits.put(2, "-DSR".find(kind).unwrap() as u32)
    });
    // Frame differences: none, 4, 2, 1, (4, 1), (2, 1), each as "follows" and four bits of one less.
    let differences: [&[u32]; 6] = [&[], &[4], &[2], &[1], &[4, 1], &[2, 1]];
    let references = differences.iter().fold(indications, |bits, list| {
        let bits = list
            .iter()
            .fold(bits, |bits, difference| bits.put(5, 16 | (difference - 1)));
        bits.put(1, 0)
    });
    // Two chains (a number below 5: two bits when below 3), protecting 0, 0, 1, 1 (below 2: one bit); six times two differences.
    let chains = references.put(2, 2).put(4, 0b0011).put(24, 0x00_1122);
    let chains = chains.put(24, 0x33_4455);
    let sizes = chains
        .put(1, 1)
        .put(16, 319)
        .put(16, 179)
        .put(16, 639)
        .put(16, 359);
    sizes.bytes()
}

fn structure() -> Structure {
    Descriptor::parse(&keyframe(), None).unwrap().1.unwrap()
}

#[test]
fn reads_a_keyframe_with_its_structure() {
    let (descriptor, structure) = Descriptor::parse(&keyframe(), None).unwrap();
    let structure = structure.unwrap();
    assert!(descriptor.start_of_frame && descriptor.end_of_frame);
    assert_eq!(descriptor.frame_number, 0x1234);
    assert!(descriptor.is_intra_base());
    assert_eq!(structure.target_count(), 4);
    let targets: Vec<_> = (0..5).map(|target| structure.target(target)).collect();
    assert_eq!(
        targets,
        [Some((0, 0)), Some((0, 1)), Some((1, 0)), Some((1, 1)), None]
    );
    assert_eq!(structure.highest(), (1, 1));
    assert_eq!(structure.size(0), Some((320, 180)));
    assert_eq!(structure.size(1), Some((640, 360)));
    assert_eq!(structure.size(2), None);
}

#[test]
fn reads_frames_by_the_structure_before_them() {
    let structure = structure();
    let read = |bytes: &str| Descriptor::parse(&hex(bytes), Some(&structure)).unwrap();
    // Template 0 is the third of those that begin at 62: spatial 0, temporal 1.
    let (descriptor, own) = read("80 1235");
    assert_eq!(own, None);
    assert_eq!((descriptor.spatial, descriptor.temporal), (0, 1));
    assert_eq!(
        (descriptor.start_of_frame, descriptor.end_of_frame),
        (true, false)
    );
    assert_eq!(descriptor.references, 1);
    assert!(!descriptor.is_intra_base());
    let indications = (0..4).map(|target| descriptor.indications.of(target));
    assert_eq!(
        indications.collect::<Vec<_>>(),
        [
            Indication::NotPresent,
            Indication::Discardable,
            Indication::NotPresent,
            Indication::Required
        ]
    );
    // Template 1 is spatial 1; it may be begun with here.
    let (descriptor, _) = read("c1 1236");
    assert_eq!((descriptor.spatial, descriptor.temporal), (1, 0));
    assert_eq!(descriptor.indications.of(3), Indication::Switch);
}

#[test]
fn reads_what_a_frame_says_for_itself() {
    let structure = structure();
    // Active targets 0 and 1; own indications D - S R; own differences: 9 in four bits, 300 in twelve.
    let bits = Bits::default()
        .put(8, 0b1100_0000)
        .put(16, 7)
        .put(5, 0b01110);
    let bits = bits.put(4, 0b0011).put(8, 0b01_00_10_11);
    let bits = bits.put(2, 1).put(4, 8).put(2, 3).put(12, 299).put(2, 0);
    let (descriptor, _) = Descriptor::parse(&bits.bytes(), Some(&structure)).unwrap();
    assert_eq!(descriptor.active_targets, Some(0b0011));
    assert_eq!(descriptor.indications.of(0), Indication::Discardable);
    assert_eq!(descriptor.indications.of(1), Indication::NotPresent);
    assert_eq!(descriptor.indications.of(2), Indication::Switch);
    assert_eq!(descriptor.indications.of(3), Indication::Required);
    assert_eq!(descriptor.references, 2);
}

#[test]
fn without_its_structure_a_descriptor_says_nothing() {
    assert_eq!(
        Descriptor::parse(&hex("80 1235"), None).err(),
        Some(Error::UnknownTemplate)
    );
    let structure = structure();
    // There are six templates from 62 on: up to 3.
    assert!(Descriptor::parse(&hex("83 1235"), Some(&structure)).is_ok());
    assert_eq!(
        Descriptor::parse(&hex("84 1235"), Some(&structure)).err(),
        Some(Error::UnknownTemplate)
    );
    assert_eq!(
        Descriptor::parse(&hex("bd 1235"), Some(&structure)).err(),
        Some(Error::UnknownTemplate)
    );
}

#[test]
fn cut_off_and_absurd_descriptors_are_refused() {
    let keyframe = keyframe();
    for len in 0..keyframe.len() {
        assert!(
            Descriptor::parse(&keyframe[..len], None).is_err(),
            "{len} of {} bytes",
            keyframe.len()
        );
    }
    // Five spatial layers, nine temporal ones, 65 templates.
    let structure = || Bits::default().put(24, 0).put(5, 16).put(11, 0);
    for layers in [vec![2; 4], vec![1; 8], vec![0; 64]] {
        let bits = layers
            .iter()
            .fold(structure(), |bits, next| bits.put(2, *next));
        let bytes = [bits.bytes(), vec![0xff; 100]].concat();
        assert_eq!(
            Descriptor::parse(&bytes, None).err(),
            Some(Error::BadStructure)
        );
    }
}

#[test]
fn a_frame_number_is_replaced_in_place() {
    let mut bytes = keyframe();
    set_frame_number(&mut bytes, 0xfffe);
    let (descriptor, structure) = Descriptor::parse(&bytes, None).unwrap();
    assert_eq!(descriptor.frame_number, 0xfffe);
    assert_eq!(structure.unwrap(), self::structure());
    let mut short = [1, 2];
    set_frame_number(&mut short, 7);
    assert_eq!(short, [1, 2]);
}

#[test]
fn noise_is_read_or_refused() {
    let (keyframe, structure) = (keyframe(), structure());
    let mut random = Random(0xdd);
    for _ in 0..200_000 {
        let mut bytes = keyframe.clone();
        for _ in 0..1 + random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
        bytes.truncate(random.below(bytes.len() + 1));
        let Ok((descriptor, own)) = Descriptor::parse(&bytes, Some(&structure)) else {
            continue;
        };
        let of = own.as_ref().unwrap_or(&structure);
        assert!(descriptor.spatial <= of.highest().0 && descriptor.temporal <= of.highest().1);
    }
}
