import type { Clock } from '../../common/clock.js';
import { sizeClassOf } from './size-class.js';

/** A slab that was free for this long is dropped. */
const LOOK_MS = 10_000;

/** Free slabs of one size. */
interface Shelf {
  readonly free: Slab[];
  /** The fewest free slabs since the last look: nobody has needed so many. */
  leastFree: number;
}

/**
 * Memory of one large tensor, which the calling thread and the replicas see. Those who read or write it hold it; when
 * nobody holds it any more it is used again.
 */
export class Slab {
  readonly memory: SharedArrayBuffer;
  readonly #owner: SlabOwner;
  /** Whether a caller has it, and may still write it. Then it is not used again. */
  isLent: boolean;
  #holders = 0;

  constructor(memory: SharedArrayBuffer, owner: SlabOwner, isLent: boolean) {
    this.memory = memory;
    this.#owner = owner;
    this.isLent = isLent;
  }

  hold(): void {
    if (this.#holders === 0) this.#owner.held(this);
    this.#holders += 1;
  }

  /** Call it once for each `hold`. */
  release(): void {
    this.#holders -= 1;
    if (this.#holders === 0) this.#owner.released(this);
  }
}

interface SlabOwner {
  /** Somebody holds the slab, for the first time since it was taken. */
  held(slab: Slab): void;
  /** Nobody holds the slab any more. */
  released(slab: Slab): void;
}

/**
 * Shared memory for large tensors, used again and again: the system has to clear new memory page by page, which takes
 * longer than filling it. Free slabs are kept as long as there is use for them. What was free for all of ten seconds is
 * dropped, so that memory follows the load; tcmalloc's thread caches shrink by the same rule, the low-water mark.
 */
export class Slabs {
  readonly #clock: Pick<Clock, 'schedule'>;
  readonly #shelves = new Map<number, Shelf>();
  readonly #owner: SlabOwner = {
    held: ({ memory }) => {
      this.#usedBytes += memory.byteLength;
    },
    released: (slab) => {
      this.#usedBytes -= slab.memory.byteLength;
      if (!slab.isLent) this.#keep(slab);
    },
  };
  #usedBytes = 0;
  #freeBytes = 0;
  #cancelLook: (() => void) | undefined;
  #isClosed = false;

  constructor(clock: Pick<Clock, 'schedule'>) {
    this.#clock = clock;
  }

  /** Bytes that requests and replicas hold. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Bytes that are kept for later requests. */
  get freeBytes(): number {
    return this.#freeBytes;
  }

  /**
   * Returns a slab of at least so many bytes, which nobody holds. It is not cleared.
   *
   * @param isLent whether a caller gets it to write.
   * @throws RangeError when there is no memory.
   */
  take(bytes: number, isLent = false): Slab {
    const size = sizeClassOf(bytes);
    const shelf = this.#shelves.get(size);
    const slab = shelf?.free.pop();
    if (shelf === undefined || slab === undefined) return new Slab(this.#allocate(size), this.#owner, isLent);
    shelf.leastFree = Math.min(shelf.leastFree, shelf.free.length);
    this.#freeBytes -= size;
    slab.isLent = isLent;
    return slab;
  }

  /** Drops the free slabs, and from now on each as soon as nobody holds it. */
  close(): void {
    this.#isClosed = true;
    this.#cancelLook?.();
    this.#dropFree();
  }

  #allocate(size: number): SharedArrayBuffer {
    try {
      return new SharedArrayBuffer(size);
    } catch {
      // Slabs of other sizes may be free.
      this.#dropFree();
      return new SharedArrayBuffer(size);
    }
  }

  #dropFree(): void {
    this.#shelves.clear();
    this.#freeBytes = 0;
  }

  #keep(slab: Slab): void {
    if (this.#isClosed) return;
    const size = slab.memory.byteLength;
    let shelf = this.#shelves.get(size);
    if (shelf === undefined) {
      shelf = { free: [], leastFree: 0 };
      this.#shelves.set(size, shelf);
    }
    shelf.free.push(slab);
    this.#freeBytes += size;
    this.#cancelLook ??= this.#clock.schedule(() => this.#look(), LOOK_MS);
  }

  #look(): void {
    for (const [size, shelf] of this.#shelves) {
      // Those used last lie at the end; their pages are the likeliest to be in a cache.
      const dropped = shelf.free.splice(0, shelf.leastFree);
      this.#freeBytes -= dropped.length * size;
      shelf.leastFree = shelf.free.length;
      if (shelf.free.length === 0) this.#shelves.delete(size);
    }
    this.#cancelLook = this.#freeBytes > 0 ? this.#clock.schedule(() => this.#look(), LOOK_MS) : undefined;
  }
}
