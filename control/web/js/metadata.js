// Stream metadata (MSC3077, MSC3291, MSC3898): who sends which stream, what it is, which tracks it has.

export const UNSTABLE_KEY = "org.matrix.msc3077.sdp_stream_metadata";
export const STABLE_KEY = "sdp_stream_metadata";
export const USERMEDIA = "m.usermedia";
export const SCREENSHARE = "m.screenshare";

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/**
 * @typedef {{kind: "audio"|"video", width: number|null, height: number|null}} TrackInfo
 * @typedef {{streamId: string, userId: string, deviceId: string, purpose: string, audioMuted: boolean,
 *   videoMuted: boolean, tracks: Map<string, TrackInfo>}} StreamInfo
 */

/**
 * Reads the snapshot in a message's content. Entries that make no sense are left out.
 * @returns {Map<string, StreamInfo>|null} by stream id; null where the message carries no snapshot
 */
export function readStreams(content) {
  const raw = content?.[STABLE_KEY] ?? content?.[UNSTABLE_KEY];
  if (!isObject(raw)) return null;
  const streams = new Map();
  for (const [streamId, entry] of Object.entries(raw)) {
    if (!isObject(entry)) continue;
    streams.set(streamId, {
      streamId,
      userId: typeof entry.user_id === "string" ? entry.user_id : "",
      deviceId: typeof entry.device_id === "string" ? entry.device_id : "",
      purpose: entry.purpose === SCREENSHARE ? SCREENSHARE : USERMEDIA,
      audioMuted: entry.audio_muted === true,
      videoMuted: entry.video_muted === true,
      tracks: readTracks(entry.tracks),
    });
  }
  return streams;
}

function readTracks(raw) {
  const tracks = new Map();
  if (!isObject(raw)) return tracks;
  for (const [trackId, entry] of Object.entries(raw)) {
    if (!isObject(entry) || (entry.kind !== "audio" && entry.kind !== "video")) continue;
    const size = (value) => (Number.isFinite(value) && value > 0 ? Math.round(value) : null);
    tracks.set(trackId, { kind: entry.kind, width: size(entry.width), height: size(entry.height) });
  }
  return tracks;
}

/** The snapshot of this page's own streams, in the form of the wire. */
export function writeStreams(streams, userId, deviceId) {
  const entries = streams.map((stream) => {
    const tracks = stream.tracks.map(({ trackId, kind, width, height }) => {
      return [trackId, width && height ? { kind, width, height } : { kind }];
    });
    const entry = {
      user_id: userId,
      device_id: deviceId,
      purpose: stream.purpose,
      audio_muted: stream.audioMuted,
      video_muted: stream.videoMuted,
      tracks: Object.fromEntries(tracks),
    };
    return [stream.streamId, entry];
  });
  return Object.fromEntries(entries);
}
