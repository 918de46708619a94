/** SHA-256, in bytes. */
const HASH_BYTES = 32;
/** A key and its hash. */
const ENTRY_BYTES = 2 * HASH_BYTES;
const WORD_BYTES = Int32Array.BYTES_PER_ELEMENT;
/** The number of entries written, in a cache line before the entries. */
const HEADER_BYTES = 64;

/** Files whose hashes are shared, so that each is hashed once. */
const FILES = 1_024;

/** Creates memory for so many entries of a {@link HashMemory}. */
export function hashMemory(entries = FILES): SharedArrayBuffer {
  return new SharedArrayBuffer(HEADER_BYTES + entries * (ENTRY_BYTES + WORD_BYTES));
}

/** Hashes of 32 bytes by keys of 32 bytes, for all threads that share the memory. New entries replace the oldest. */
export class HashMemory {
  readonly #capacity: number;
  readonly #written: Int32Array;
  readonly #entries: Uint8Array;
  /** The number of each entry in the order of writing, from 1; 0 while it is being written. */
  readonly #numbers: Int32Array;

  constructor(memory: SharedArrayBuffer) {
    this.#capacity = Math.floor((memory.byteLength - HEADER_BYTES) / (ENTRY_BYTES + WORD_BYTES));
    const entriesBytes = this.#capacity * ENTRY_BYTES;
    this.#written = new Int32Array(memory, 0, 1);
    this.#entries = new Uint8Array(memory, HEADER_BYTES, entriesBytes);
    this.#numbers = new Int32Array(memory, HEADER_BYTES + entriesBytes, this.#capacity);
  }

  get(key: Uint8Array): Uint8Array | undefined {
    for (let index = 0; index < this.#capacity; index += 1) {
      const number = Atomics.load(this.#numbers, index);
      if (number === 0) continue;
      const start = index * ENTRY_BYTES;
      if (!key.every((byte, at) => byte === this.#entries[start + at])) continue;
      const hash = this.#entries.slice(start + HASH_BYTES, start + ENTRY_BYTES);
      // If another thread has begun to write here meanwhile, the hash may be torn.
      if (Atomics.load(this.#numbers, index) === number) return hash;
    }
    return undefined;
  }

  set(key: Uint8Array, hash: Uint8Array): void {
    const number = Atomics.add(this.#written, 0, 1) + 1;
    const index = number % this.#capacity;
    Atomics.store(this.#numbers, index, 0);
    this.#entries.set(key, index * ENTRY_BYTES);
    this.#entries.set(hash, index * ENTRY_BYTES + HASH_BYTES);
    Atomics.store(this.#numbers, index, number);
  }

  /** All entries, each a key and its hash, while no other thread writes. */
  entries(): [Uint8Array, Uint8Array][] {
    const entries: [Uint8Array, Uint8Array][] = [];
    for (let index = 0; index < this.#capacity; index += 1) {
      if (this.#numbers[index] === 0) continue;
      const start = index * ENTRY_BYTES;
      const middle = start + HASH_BYTES;
      entries.push([this.#entries.slice(start, middle), this.#entries.slice(middle, start + ENTRY_BYTES)]);
    }
    return entries;
  }
}
