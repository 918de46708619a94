import type { Clock } from '../../common/clock.js';
import { Slots } from '../../common/tasks/slots.js';
import { askFinder } from './ask-finder.js';
import type { DownloadProgress } from './download-progress.js';
import { discardFound } from './finder.js';
import type { Finders } from './finders.js';
import { type RealizedFind, type RealizeTerms, readFound, realizeFind } from './found/realize-find.js';
import type { Target } from './target.js';

/** Calls of finders, and downloads, that are under way at once. */
const MOST_FINDS = 16;
const MOST_DOWNLOADS = 4;

/** Looks for models with finders, so many at once. */
export class FinderLooks {
  readonly #finders: Finders;
  readonly #terms: Omit<RealizeTerms, 'signal'>;
  readonly #progress: DownloadProgress;
  readonly #clock: Clock;
  readonly #finds = new Slots(MOST_FINDS);
  readonly #downloads = new Slots(MOST_DOWNLOADS);

  constructor(finders: Finders, terms: Omit<RealizeTerms, 'signal'>, progress: DownloadProgress, clock: Clock) {
    this.#finders = finders;
    this.#terms = terms;
    this.#progress = progress;
    this.#clock = clock;
  }

  /**
   * Asks the finder, and brings what it names to where replicas can load it.
   *
   * @returns undefined when the finder knows no such model. @throws InfermuxError; the reason of the signal.
   */
  async look({ id, version }: Target, signal: AbortSignal): Promise<RealizedFind | undefined> {
    const finder = this.#finders.of(id);
    if (finder === undefined) return undefined;
    const answer = await this.#finds.run(signal, () => askFinder(finder, id, version, signal, this.#clock));
    if (answer === undefined || answer === null) return undefined;
    const found = readFound(id, version, answer, this.#terms.maxModelBytes);
    const terms = { ...this.#terms, signal };
    const isQuick = found.place.kind === 'path' || found.place.kind === 'bytes';
    let hasBegun = false;
    const realize = () => {
      hasBegun = true;
      return realizeFind(id, version, found, terms);
    };
    const download = () => this.#progress.during(version === undefined ? id : `${id}@${version}`, realize);
    const realized = await (isQuick ? realize() : this.#downloads.run(signal, download)).catch((cause) => {
      if (!hasBegun) discardFound(answer);
      throw cause;
    });
    if (signal.aborted && realized.kept !== undefined) this.#terms.cache.settle(realized.kept);
    signal.throwIfAborted();
    return realized;
  }
}
