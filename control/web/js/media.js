// Capture: camera, microphone, screen, and how each is encoded. Not here: how a track gets to the focus (leg.js).

import { SCREENSHARE, USERMEDIA } from "./metadata.js";

/**
 * Three simulcast layers, best first: Chromium drops layers from the end when the picture is small, so the order matters.
 * More bitrate is a better picture for those with the bandwidth; the lower two are what everybody else gets. All run at the
 * camera's rate: the last frame before a change of layers and the first after it are then no further apart than they must be.
 */
const CAMERA_ENCODINGS = [
  { rid: "f", maxFramerate: 30, maxBitrate: 1_700_000, scaleResolutionDownBy: 1 },
  { rid: "h", maxFramerate: 30, maxBitrate: 300_000, scaleResolutionDownBy: 2 },
  { rid: "q", maxFramerate: 30, maxBitrate: 120_000, scaleResolutionDownBy: 4 },
];
const SCREEN_ENCODINGS = [
  { rid: "f", maxFramerate: 30, maxBitrate: 3_000_000, scaleResolutionDownBy: 1 },
  { rid: "h", maxFramerate: 15, maxBitrate: 1_000_000, scaleResolutionDownBy: 1.5 },
  { rid: "q", maxFramerate: 3, maxBitrate: 200_000, scaleResolutionDownBy: 3 },
];

const CAMERA_EXACT = { width: { exact: 1280 }, height: { exact: 720 }, frameRate: { ideal: 30 } };
const CAMERA_IDEAL = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
const MICROPHONE = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
const SCREEN = { width: { ideal: 1920, max: 1920 }, height: { ideal: 1080, max: 1080 }, frameRate: { ideal: 30 } };

/** The layers of a video track by what it shows. */
export function encodingsFor(purpose) {
  const encodings = purpose === SCREENSHARE ? SCREEN_ENCODINGS : CAMERA_ENCODINGS;
  return encodings.map((encoding) => ({ ...encoding }));
}

/** Names the layer that a received picture comes from, judged by its height against the published one. */
export function layerOf(purpose, publishedHeight, receivedHeight) {
  if (!publishedHeight || !receivedHeight) return "";
  const ratio = publishedHeight / receivedHeight;
  let best = "";
  let bestError = Infinity;
  for (const { rid, scaleResolutionDownBy } of encodingsFor(purpose)) {
    const error = Math.abs(Math.log(ratio / scaleResolutionDownBy));
    if (error < bestError) [best, bestError] = [rid, error];
  }
  return best;
}

/** Explains a failed capture to the person in front of it. */
function captureError(error, device) {
  const reasons = {
    NotAllowedError: `The browser was not allowed to use the ${device}.`,
    NotFoundError: `No ${device} was found.`,
    NotReadableError: `The ${device} is in use by another program.`,
    OverconstrainedError: `The ${device} cannot do what was asked of it.`,
  };
  const failure = new Error(reasons[error.name] ?? `The ${device} could not be opened: ${error.message}`);
  failure.name = error.name;
  return failure;
}

async function openCamera() {
  try {
    return await navigator.mediaDevices.getUserMedia({ video: CAMERA_EXACT });
  } catch (error) {
    if (error.name !== "OverconstrainedError") throw captureError(error, "camera");
  }
  try {
    return await navigator.mediaDevices.getUserMedia({ video: CAMERA_IDEAL });
  } catch (error) {
    throw captureError(error, "camera");
  }
}

async function openMicrophone() {
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: MICROPHONE });
  } catch (error) {
    throw captureError(error, "microphone");
  }
}

function requireCapture(method) {
  if (navigator.mediaDevices?.[method]) return;
  throw new Error("This browser gives cameras and microphones only to pages that come over https or from localhost.");
}

/**
 * One thing that is sent: the camera with its microphone, or one screen with its sound.
 *
 * `stream` keeps its id for as long as the source lives, whatever happens to its tracks: it is the stream's name in the
 * metadata. A muted camera has no track (the camera is off); a muted microphone has a disabled one.
 */
export class Source {
  constructor(purpose) {
    this.purpose = purpose;
    this.stream = new MediaStream();
    this.audioMuted = true;
    this.videoMuted = true;
    /** What the last camera or screen track measured: known to others even while it is off. */
    this.size = { width: null, height: null };
  }

  get audioTrack() {
    return this.stream.getAudioTracks()[0] ?? null;
  }

  get videoTrack() {
    return this.stream.getVideoTracks()[0] ?? null;
  }

  /** Puts `track` in the place of an earlier one of its kind. */
  setTrack(track) {
    this.dropTrack(track.kind);
    this.stream.addTrack(track);
    if (track.kind === "video") {
      const { width = null, height = null } = track.getSettings();
      this.size = { width, height };
    }
  }

  /** Stops and forgets the track of a kind. */
  dropTrack(kind) {
    for (const track of this.stream.getTracks()) {
      if (track.kind !== kind) continue;
      this.stream.removeTrack(track);
      track.stop();
    }
  }

  stop() {
    this.dropTrack("audio");
    this.dropTrack("video");
  }
}

/** Camera and microphone. */
export class UserMedia extends Source {
  constructor() {
    super(USERMEDIA);
  }

  /** Turns the camera on; throws an error that can be shown. */
  async openCamera() {
    requireCapture("getUserMedia");
    const [track] = (await openCamera()).getVideoTracks();
    track.contentHint = "motion";
    this.setTrack(track);
    this.videoMuted = false;
    return track;
  }

  /** Turns the camera off, so that its light goes out. */
  closeCamera() {
    this.videoMuted = true;
    this.dropTrack("video");
  }

  /** Opens the microphone; throws an error that can be shown. */
  async openMicrophone() {
    requireCapture("getUserMedia");
    const [track] = (await openMicrophone()).getAudioTracks();
    this.setTrack(track);
    this.audioMuted = false;
    return track;
  }

  /** Silences the microphone without closing it, so that it speaks again at once. */
  setMicrophoneMuted(muted) {
    this.audioMuted = muted;
    if (this.audioTrack) this.audioTrack.enabled = !muted;
  }
}

/** Asks the user for a screen, window or tab to share. */
export async function openScreen() {
  requireCapture("getDisplayMedia");
  let captured;
  try {
    captured = await navigator.mediaDevices.getDisplayMedia({ video: SCREEN, audio: true, selfBrowserSurface: "include" });
  } catch (error) {
    throw captureError(error, "screen");
  }
  const source = new Source(SCREENSHARE);
  for (const track of captured.getTracks()) source.setTrack(track);
  source.videoTrack.contentHint = "detail";
  source.videoMuted = false;
  source.audioMuted = source.audioTrack === null;
  return source;
}
