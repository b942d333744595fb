//! Dependency descriptors: a structure, and frames that are read by it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_wire::dependency::{DECODE_TARGETS_MAX, Descriptor, Structure, set_frame_number};

fuzz_target!(|bytes: &[u8]| {
    // The first byte says where the data of the first packet ends.
    let Some((&len, rest)) = bytes.split_first() else { return };
    let (first, mut others) = rest.split_at(rest.len().min(len.into()));
    let Ok((descriptor, own)) = Descriptor::parse(first, None) else { return };
    let structure = own.expect("without a structure nothing can be read");
    check(&descriptor, &structure);
    let mut renumbered = first.to_vec();
    set_frame_number(&mut renumbered, !descriptor.frame_number);
    let (again, same) = Descriptor::parse(&renumbered, None).expect("only a number has changed");
    assert_eq!(again, Descriptor { frame_number: !descriptor.frame_number, ..descriptor });
    assert_eq!(same.as_ref(), Some(&structure));
    while !others.is_empty() {
        let frame;
        (frame, others) = others.split_at(others.len().min(5));
        if let Ok((descriptor, None)) = Descriptor::parse(frame, Some(&structure)) {
            check(&descriptor, &structure);
        }
    }
});

fn check(descriptor: &Descriptor, structure: &Structure) {
    let (spatial, temporal) = structure.highest();
    assert!(spatial < 4 && temporal < 8);
    assert!(descriptor.spatial <= spatial && descriptor.temporal <= temporal);
    assert!((1..=DECODE_TARGETS_MAX).contains(&structure.target_count()));
    for target in 0..structure.target_count() {
        let (of_spatial, of_temporal) = structure.target(target).expect("it is one of them");
        assert!(of_spatial <= spatial && of_temporal <= temporal);
        let _ = descriptor.indications.of(target);
    }
    assert!((0..4).all(|layer| structure.size(layer).is_none_or(|(width, height)| width > 0 && height > 0)));
}
