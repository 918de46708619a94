import type { ModelSearchEnvironment } from './model-search.js';

type DownloadProgressEnvironment = Pick<ModelSearchEnvironment, 'clock' | 'log' | 'received'>;

const TELL_MS = 10_000;

/** Logs every ten seconds which models are being downloaded, and the bytes that have come of all of them since then. */
export class DownloadProgress {
  readonly #environment: DownloadProgressEnvironment;
  readonly #underWay = new Set<string>();
  #receivedBytes = 0;
  #cancel: () => void = () => undefined;

  constructor(environment: DownloadProgressEnvironment) {
    this.#environment = environment;
  }

  received(bytes: number): void {
    this.#receivedBytes += bytes;
    this.#environment.received(bytes);
  }

  /** The model is being downloaded until the work is done. */
  async during<T>(model: string, work: () => Promise<T>): Promise<T> {
    if (this.#underWay.size === 0) this.#begin();
    this.#underWay.add(model);
    try {
      return await work();
    } finally {
      this.#underWay.delete(model);
      if (this.#underWay.size === 0) this.#cancel();
    }
  }

  #begin(): void {
    const { clock, log } = this.#environment;
    this.#receivedBytes = 0;
    this.#cancel = clock.schedule(() => {
      const fields = { models: [...this.#underWay], receivedBytes: this.#receivedBytes };
      log('info', fields, 'models are being downloaded');
      this.#begin();
    }, TELL_MS);
  }
}
