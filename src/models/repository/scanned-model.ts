import type { InfermuxError } from '../../common/errors.js';
import type { FoundModel } from '../registered-model.js';

export interface BrokenVersion {
  readonly version: number;
  readonly problem: InfermuxError;
}

/** One model as a scan found it. */
export interface ScannedModel {
  readonly id: string;
  /** The versions that its policy serves, without those that are broken. */
  readonly served: readonly FoundModel[];
  /** Versions that its policy serves and that cannot be read as they are. If all are, the model has a problem. */
  readonly broken?: readonly BrokenVersion[];
  /** All versions that were found. */
  readonly versions: readonly number[];
  /** The served version that the id alone stands for; null: none that is known. Default: the last. */
  readonly standsFor?: number | null | undefined;
  /** When one of its files was last written or replaced: milliseconds as of `Date.now()`. */
  readonly changedAt: number;
  /**
   * Why it cannot be served; undefined when it can. A retryable problem says nothing about the model: the system could
   * not answer.
   */
  readonly problem: InfermuxError | undefined;
}

export interface RepositoryScan {
  readonly models: ReadonlyMap<string, ScannedModel>;
  /** Names that look like models or versions and are none, with the reason. */
  readonly passedOver: ReadonlyMap<string, string>;
  /** Whether there was no model at all, as in the place of a share that is not mounted. */
  readonly isEmpty: boolean;
}

/** Where models are looked for. */
export interface ModelScanner {
  /**
   * @param only the id of the only model to look for.
   * @param except a version to ignore.
   * @throws InfermuxError `FAILED_PRECONDITION` when nothing can be seen.
   */
  scan(only?: string, except?: number): Promise<RepositoryScan>;
}
