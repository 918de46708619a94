import type { EngineLogger } from '../index.js';
import { refusal } from '../open-inference/error-statuses.js';
import { ApiKeys, keyIn } from './api-keys.js';
import type { AuthOptions } from './server-options.js';

/** Part of the server that a request is for. */
export type Area = 'health' | 'inference' | 'admin';

/** A proxy on this machine says by these that it speaks for somebody else. */
const OF_PROXIES = ['x-forwarded-for', 'forwarded', 'x-real-ip', 'via'];

/** Decides who may ask for what, by the key of the request. */
export class AccessControl {
  readonly #keys: ApiKeys | undefined;
  readonly #adminKeys: ApiKeys | undefined;
  readonly #isAdminLocal: boolean;

  /**
   * @param isAdminLocal whether the admin part is there without keys because only this machine can connect.
   * @throws InfermuxError `INVALID_ARGUMENT` for a file of keys that cannot be read.
   */
  constructor({ keys, adminKeys }: AuthOptions, isAdminLocal: boolean, logger: EngineLogger | undefined) {
    this.#isAdminLocal = isAdminLocal;
    this.#keys = keys === undefined ? undefined : new ApiKeys(keys, logger);
    this.#adminKeys = adminKeys === undefined ? undefined : new ApiKeys(adminKeys, logger);
  }

  /** Whether requests need a key. */
  get hasKeys(): boolean {
    return this.#keys !== undefined;
  }

  /** Whether everybody may ask for everything. */
  get isOpen(): boolean {
    return this.#keys === undefined && this.#adminKeys === undefined && !this.#isAdminLocal;
  }

  /**
   * Checks where a request comes from and its key. Health needs none.
   *
   * @param read returns a header, or metadata of a call.
   * @throws InfermuxError that says that there is no key, or that it is not a right one.
   */
  check(area: Area, read: (name: string) => string | undefined): void {
    if (area === 'health') return;
    if (area === 'admin' && this.#isAdminLocal && OF_PROXIES.some((name) => read(name) !== undefined)) {
      const message =
        'the admin part is open for this machine alone, and a proxy passes this request on: set keys for it (--admin-keys), or switch it on (--admin)';
      throw refusal('forbidden', message);
    }
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
