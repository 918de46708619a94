/**
 * Frames carry the messages between the calling process and a replica's process. One frame is:
 *
 * - a header: bytes of the message, how many large views it has, and three counts;
 * - for each large view, in the order in which the message names them: its bytes, and whether threads share its memory;
 * - the message in V8's serialization, in which a view is its kind and its length, and if it is small its bytes;
 * - the bytes of each large view.
 *
 * So a reader takes the bytes of large arrays right into the memory in which they stay, and need not understand the
 * message. Threads share their counters; here the counts keep those of both sides true. A frame without a message has a
 * length of 0.
 */
export const HEADER = { bytes: 0, aparts: 4, counts: 8 } as const;

/** Of one count. */
export const COUNT_BYTES = Float64Array.BYTES_PER_ELEMENT;

/** What stands for one large view before the message. */
export const APART = { bytes: 0, isShared: 4 } as const;

export const APART_BYTES = 8;

/** Views of so many bytes go as they are, behind the message: a copy of them would cost more than a system call's entry. */
export const APART_FROM_BYTES = 16_384;

/** Most bytes of one frame. More comes only from a sender that is not in its right mind. */
export const MOST_BYTES = 2 ** 31 - 1;

/** What the other side has to know of this side's counters. */
export type Counts = readonly [number, number, number];

export const HEADER_BYTES = HEADER.counts + 3 * COUNT_BYTES;

export interface Frame {
  readonly counts: Counts;
  /** Undefined when the frame only tells the counts. */
  readonly message: Uint8Array | undefined;
  /** The large views of the message. */
  readonly aparts: readonly Uint8Array[];
}

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
