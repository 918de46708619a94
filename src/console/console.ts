import type { ServerResponse } from 'node:http';
import type { InferenceEngine } from '../index.js';
import { type Asset, assetOf } from './assets.js';
import type { ModelDescription, TrialResult } from './messages.js';
import { describeModel, tryModel } from './trials.js';
import { Watchers } from './watching/watchers.js';

/** Nothing from elsewhere, and nobody else's frame. */
export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-cache',
};

/** What the console does, whoever serves it. */
export class Console {
  readonly #engine: InferenceEngine;
  readonly #watchers: Watchers;
  /** Whether models may be loaded and unloaded. */
  readonly isAdmin: boolean;

  constructor(engine: InferenceEngine, isAdmin: boolean) {
    this.#engine = engine;
    this.isAdmin = isAdmin;
    this.#watchers = new Watchers(engine, isAdmin);
  }

  /** A file of the page, by its name below the page's address; undefined if there is none. */
  asset(name: string): Asset | undefined {
    return assetOf(name);
  }

  /** Sends what goes on to a page that is open. @returns false when too many are open. */
  watch(response: ServerResponse): boolean {
    if (!this.#watchers.hasRoom) return false;
    this.#watchers.add(response);
    return true;
  }

  describe(model: string): Promise<ModelDescription> {
    return describeModel(this.#engine, model);
  }

  /** @param text a `TrialRequest` as JSON. */
  infer(text: string, signal: AbortSignal): Promise<TrialResult> {
    return tryModel(this.#engine, text, signal);
  }

  async load(model: string): Promise<void> {
    await this.#engine.models.load(model);
  }

  async unload(model: string): Promise<void> {
    await this.#engine.models.unload(model);
  }

  /** Ends the connections of the pages that are open. */
  end(): void {
    this.#watchers.end();
  }

  close(): void {
    this.#watchers.close();
  }
}
