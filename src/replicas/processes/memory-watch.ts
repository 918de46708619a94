import { readFile } from 'node:fs/promises';
import type { Clock } from '../../common/clock.js';

const LOOK_MS = 100;
const BYTES_PER_KB = 1_024;

/** Looks at the resident memory of a process again and again, as Linux tells it. */
export class MemoryWatch {
  readonly #clock: Clock;
  readonly #pid: number;
  readonly #limitBytes: number;
  readonly #exceeded: (bytes: number) => void;
  #cancel: () => void = () => undefined;
  #isStopped = false;

  /** @param exceeded called once when the process takes more than `limitBytes`. */
  constructor(clock: Clock, pid: number, limitBytes: number, exceeded: (bytes: number) => void) {
    this.#clock = clock;
    this.#pid = pid;
    this.#limitBytes = limitBytes;
    this.#exceeded = exceeded;
    this.#lookLater();
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancel();
  }

  #lookLater(): void {
    this.#cancel = this.#clock.schedule(() => void this.#look(), LOOK_MS);
  }

  async #look(): Promise<void> {
    const bytes = await residentBytes(this.#pid);
    if (this.#isStopped) return;
    // A look may fail, for instance because too many files are open.
    if (bytes === undefined || bytes <= this.#limitBytes) {
      this.#lookLater();
      return;
    }
    this.#isStopped = true;
    this.#exceeded(bytes);
  }
}

/** Undefined when the process is gone, and on systems other than Linux. */
export async function residentBytes(pid: number): Promise<number | undefined> {
  try {
    const status = await readFile(`/proc/${pid}/status`, 'latin1');
    const kilobytes = /^VmRSS:\s+(\d+)/m.exec(status)?.[1];
    return kilobytes === undefined ? undefined : BYTES_PER_KB * Number(kilobytes);
  } catch {
    return undefined;
  }
}
