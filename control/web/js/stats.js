// Figures out of RTCPeerConnection.getStats: per received m-section and per sent layer, with rates between two samples.

/** @typedef {{mid: string, kind: string, width: number, height: number, framesPerSecond: number, bitrate: number,
 *   framesReceived: number, framesDecoded: number, keyFramesDecoded: number, freezeCount: number, freezeSeconds: number, packetsReceived: number,
 *   packetsLost: number, audioLevel: number|null}} Inbound */

/** Remembers the last sample, so that the next one can say bits per second. */
export class Sampler {
  #last = new Map();

  /**
   * @param {RTCStatsReport} report
   * @returns {{inbound: Map<string, Inbound>, outbound: object[], roundTripMs: number|null}} inbound by mid
   */
  sample(report) {
    const inbound = new Map();
    const outbound = [];
    let roundTripMs = null;
    for (const stats of report.values()) {
      if (stats.type === "inbound-rtp" && stats.mid !== undefined) {
        // A section that the focus has used before may still have figures of its former stream.
        const newest = !(inbound.get(stats.mid)?.lastPacketAt > (stats.lastPacketReceivedTimestamp ?? 0));
        if (newest) inbound.set(stats.mid, this.#inbound(stats));
      }
      if (stats.type === "outbound-rtp") outbound.push(this.#outbound(stats));
      else if (stats.type === "candidate-pair" && stats.nominated && stats.currentRoundTripTime !== undefined) {
        roundTripMs = stats.currentRoundTripTime * 1000;
      }
    }
    return { inbound, outbound, roundTripMs };
  }

  #inbound(stats) {
    return {
      mid: stats.mid,
      kind: stats.kind,
      lastPacketAt: stats.lastPacketReceivedTimestamp ?? 0,
      width: stats.frameWidth ?? 0,
      height: stats.frameHeight ?? 0,
      framesPerSecond: stats.framesPerSecond ?? 0,
      bitrate: this.#rate(stats, stats.bytesReceived),
      framesReceived: stats.framesReceived ?? 0,
      framesDecoded: stats.framesDecoded ?? 0,
      keyFramesDecoded: stats.keyFramesDecoded ?? 0,
      framesDropped: stats.framesDropped ?? 0,
      freezeCount: stats.freezeCount ?? 0,
      freezeSeconds: stats.totalFreezesDuration ?? 0,
      bytesReceived: stats.bytesReceived ?? 0,
      headerBytesReceived: stats.headerBytesReceived ?? 0,
      packetsReceived: stats.packetsReceived ?? 0,
      packetsLost: stats.packetsLost ?? 0,
      nackCount: stats.nackCount ?? 0,
      pliCount: stats.pliCount ?? 0,
      audioLevel: stats.audioLevel ?? null,
      totalAudioEnergy: stats.totalAudioEnergy ?? 0,
    };
  }

  #outbound(stats) {
    return {
      mid: stats.mid,
      kind: stats.kind,
      rid: stats.rid ?? "",
      active: stats.active ?? true,
      width: stats.frameWidth ?? 0,
      height: stats.frameHeight ?? 0,
      framesPerSecond: stats.framesPerSecond ?? 0,
      bitrate: this.#rate(stats, stats.bytesSent),
      bytesSent: stats.bytesSent ?? 0,
      framesEncoded: stats.framesEncoded ?? 0,
      limitation: stats.qualityLimitationReason ?? "none",
    };
  }

  #rate(stats, bytes = 0) {
    const last = this.#last.get(stats.id);
    if (last && stats.timestamp - last.at < 100) return last.rate;
    const rate = last ? (8000 * (bytes - last.bytes)) / (stats.timestamp - last.at) : 0;
    this.#last.set(stats.id, { at: stats.timestamp, bytes, rate });
    return rate;
  }
}

/** Bits per second as a person reads them. */
export function formatBitrate(bitsPerSecond) {
  if (bitsPerSecond >= 1_000_000) return `${(bitsPerSecond / 1_000_000).toFixed(1)} Mb/s`;
  return `${Math.round(bitsPerSecond / 1000)} kb/s`;
}
