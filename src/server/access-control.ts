import type { EngineLogger } from '../index.js';
import { refusal } from '../open-inference/error-statuses.js';
import { ApiKeys, keyIn } from './api-keys.js';
import type { AuthOptions } from './server-options.js';

/** Part of the server that a request is for. */
export type Area = 'health' | 'inference' | 'admin';

/** Decides who may ask for what, by the key of the request. */
export class AccessControl {
  readonly #keys: ApiKeys | undefined;
  readonly #adminKeys: ApiKeys | undefined;

  /** @throws InfermuxError `INVALID_ARGUMENT` for a file of keys that cannot be read. */
  constructor({ keys, adminKeys }: AuthOptions, logger: EngineLogger | undefined) {
    this.#keys = keys === undefined ? undefined : new ApiKeys(keys, logger);
    this.#adminKeys = adminKeys === undefined ? undefined : new ApiKeys(adminKeys, logger);
  }

  /** Whether requests need a key. */
  get hasKeys(): boolean {
    return this.#keys !== undefined;
  }

  /** Whether no request needs a key. */
  get isOpen(): boolean {
    return this.#keys === undefined && this.#adminKeys === undefined;
  }

  /**
   * Checks the key of a request. Health needs none.
   *
   * @param read returns a header, or metadata of a call.
   * @throws InfermuxError that says that there is no key, or that it is not a right one.
   */
  check(area: Area, read: (name: string) => string | undefined): void {
    if (area === 'health') return;
    const keys = area === 'admin' ? (this.#adminKeys ?? this.#keys) : this.#keys;
    if (keys === undefined) return;
    const given = keyIn(read);
    if (keys.has(given)) return;
    // The key of the admin part is good for everything.
    if (area === 'inference' && this.#adminKeys?.has(given) === true) return;
    if (given === undefined) {
      throw refusal('unauthenticated', 'a key is needed: send the header "Authorization: Bearer <key>" or "X-API-Key"');
    }
    const isKnown = area === 'admin' && this.#keys?.has(given) === true;
    throw isKnown
      ? refusal('forbidden', 'this key is not for the admin part')
      : refusal('unauthenticated', 'the key is not a right one');
  }

  close(): void {
    this.#keys?.close();
    this.#adminKeys?.close();
  }
}
