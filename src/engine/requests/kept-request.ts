import { InfermuxError } from '../../common/errors.js';
import type { RunOptions } from '../../contracts/run-options.js';
import { ownFeeds } from '../../tensors/memory/own-feeds.js';
import { readFeeds } from '../../tensors/read-feeds.js';
import type { Feeds } from '../../tensors/tensor.js';
import { cloneRequest } from './owned-request.js';

/** A request that waits until it is submitted, copied: its caller may change its own meanwhile. */
export interface KeptRequest {
  /** For a model. */
  readonly feeds: unknown;
  /** For a handler. */
  readonly value: unknown;
  /** Call it when the request is submitted, or will never be. */
  readonly release: (() => void) | undefined;
}

/**
 * Copies a request.
 *
 * @param isHandled whether a handler takes it; undefined when that is not known yet: then it is kept for both.
 * @throws InfermuxError `INVALID_ARGUMENT` for a request that neither could take.
 */
export function keepRequest(request: unknown, { transfer }: RunOptions, isHandled: boolean | undefined): KeptRequest {
  // The caller has given it away.
  if (transfer === true) return { feeds: request, value: request, release: undefined };
  if (isHandled === true) return forHandler(request);
  if (isHandled === false) return forModel(request);
  const [model, handler] = [attempt(() => forModel(request)), attempt(() => forHandler(request))];
  const kept = handler.kept ?? model.kept;
  if (kept === undefined) throw handler.error;
  return { ...kept, feeds: model.kept?.feeds ?? kept.feeds, release: model.kept?.release };
}

function forHandler(request: unknown): KeptRequest {
  const value = cloneRequest(request);
  return { feeds: value, value, release: undefined };
}

function forModel(request: unknown): KeptRequest {
  const feeds = readFeeds(request as Feeds);
  const { release } = ownFeeds(feeds);
  return { feeds, value: feeds, release };
}

function attempt(keep: () => KeptRequest): { readonly kept?: KeptRequest; readonly error?: unknown } {
  try {
    return { kept: keep() };
  } catch (error) {
    if (error instanceof InfermuxError) return { error };
    throw error;
  }
}
