//! From the words of signalling to the words of the shards.

use weir_shard::{Codec, CodecMapping, ExtensionIds, IceCredentials, MediaKind, Purpose, Size};
use weir_signal::{channel, metadata, sdp};

pub(super) fn kind(kind: sdp::MediaKind) -> MediaKind {
    match kind {
        sdp::MediaKind::Audio => MediaKind::Audio,
        sdp::MediaKind::Video => MediaKind::Video,
    }
}

/// What nobody has heard of is treated as a camera.
pub(super) fn purpose(purpose: &metadata::Purpose) -> Purpose {
    match purpose {
        metadata::Purpose::Usermedia | metadata::Purpose::Other(_) => Purpose::UserMedia,
        metadata::Purpose::Screenshare => Purpose::ScreenShare,
    }
}

pub(super) fn codec(codec: sdp::Codec) -> Codec {
    match codec {
        sdp::Codec::Opus => Codec::Opus,
        sdp::Codec::Red => Codec::Red,
        sdp::Codec::Vp8 => Codec::Vp8,
        sdp::Codec::Vp9 => Codec::Vp9,
        sdp::Codec::H264 => Codec::H264,
        sdp::Codec::Av1 => Codec::Av1,
    }
}

pub(super) fn codec_mapping(mapping: &sdp::CodecMapping) -> CodecMapping {
    CodecMapping {
        payload_type: mapping.payload_type,
        codec: codec(mapping.codec),
        clock_rate: mapping.clock_rate,
        rtx_payload_type: mapping.rtx_payload_type,
    }
}

pub(super) fn extensions(ids: &sdp::ExtensionIds) -> ExtensionIds {
    ExtensionIds {
        mid: ids.mid,
        rid: ids.rid,
        repaired_rid: ids.repaired_rid,
        transport_cc: ids.transport_cc,
        audio_level: ids.audio_level,
        abs_send_time: ids.abs_send_time,
        video_orientation: ids.video_orientation,
        dependency_descriptor: ids.dependency_descriptor,
    }
}

pub(super) fn ice_credentials(
    local: &sdp::IceCredentials,
    remote: &sdp::IceCredentials,
) -> IceCredentials {
    IceCredentials {
        local_ufrag: local.ufrag.clone(),
        local_pwd: local.pwd.clone(),
        remote_ufrag: remote.ufrag.clone(),
        remote_pwd: remote.pwd.clone(),
    }
}

/// The size of a tile. Absent or zero means the lowest layer.
pub(super) fn wanted_size(size: Option<channel::Size>) -> Option<Size> {
    size.and_then(|size| usable_size(size.width, size.height))
}

/// The size of a published track; half a size is none.
pub(super) fn metadata_size(track: &metadata::Track) -> Option<Size> {
    usable_size(track.width?, track.height?)
}

fn usable_size(width: u32, height: u32) -> Option<Size> {
    let clamp = |pixels: u32| u16::try_from(pixels).unwrap_or(u16::MAX);
    (width > 0 && height > 0).then(|| Size {
        width: clamp(width),
        height: clamp(height),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checklist_22_width_zero_or_absent_sizes_mean_the_lowest_layer() {
        assert_eq!(wanted_size(None), None);
        assert_eq!(
            wanted_size(Some(channel::Size {
                width: 0,
                height: 720
            })),
            None
        );
        assert_eq!(
            wanted_size(Some(channel::Size {
                width: 100_000,
                height: 1
            })),
            Some(Size::new(65535, 1))
        );
    }
}
