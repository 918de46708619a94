/**
 * Frames carry the messages between the calling process and a replica's process. One frame is:
 *
 * - a header: bytes of the message, and three counts;
 * - the message in V8's serialization, in which a view is its kind and its length, and if it is small its bytes;
 * - the bytes of each large view, in the order in which the message names them.
 *
 * So the reader takes the bytes of large arrays right into the memory in which they stay. Threads share their counters;
 * here the counts keep those of both sides true. A frame without a message has a length of 0.
 */
export const HEADER = { bytes: 0, counts: 8 } as const;

/** Of one count. */
export const COUNT_BYTES = Float64Array.BYTES_PER_ELEMENT;

/** Most bytes of one message. More comes only from a sender that is not in its right mind. */
export const MOST_BYTES = 2 ** 31 - 1;

/** What the other side has to know of this side's counters. */
export type Counts = readonly [number, number, number];

export const HEADER_BYTES = HEADER.counts + 3 * COUNT_BYTES;

/** The sockets of a replica's process, by the numbers of their files there. */
export const PROCESS_FILES = {
  /** Frames to the process. */
  messages: 3,
  /** Frames from it. */
  answers: 4,
  /** Nothing: it closes when the calling process ends. */
  life: 5,
} as const;

/** The argument of a process that goes before others when there are not enough cores. */
export const EXPRESS = 'express';
