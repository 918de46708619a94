import { InfermuxError, messageOf, show } from '../../common/errors.js';
import { clone } from '../../common/values/clone.js';
import type { RunOptions } from '../../contracts/run-options.js';
import type { RequestPayload } from '../../routing/pending-request.js';
import { checkFeeds, checkOutputNames } from '../../tensors/check-feeds.js';
import { type OwnedFeeds, ownFeeds } from '../../tensors/memory/own-feeds.js';
import type { Slabs } from '../../tensors/memory/slabs.js';
import { readFeeds } from '../../tensors/read-feeds.js';
import type { Feeds, ModelMetadata, ReadFeeds } from '../../tensors/tensor.js';

/** A caller's request, copied to memory that the caller cannot change. */
export interface OwnedRequest {
  readonly feeds: ReadFeeds;
  readonly payload: RequestPayload | undefined;
  readonly outputs: readonly string[] | undefined;
  readonly checked: boolean;
  readonly takeOver: OwnedFeeds['takeOver'];
  readonly apartBytes: number;
  readonly releaseFeeds: OwnedFeeds['release'];
}

/**
 * Reads a request for a model.
 *
 * @param metadata undefined until the model has been loaded once.
 * @param slabs memory for large tensors.
 * @throws InfermuxError `INVALID_ARGUMENT`.
 */
export function readModelRequest(
  modelId: string,
  metadata: ModelMetadata | undefined,
  given: Feeds,
  { outputs, transfer, method }: RunOptions,
  slabs: Slabs,
  isShadow: boolean,
): OwnedRequest {
  if (method !== undefined) {
    const message = `method is for handlers, and model ${show(modelId)} has none: leave it out`;
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  const feeds = readFeeds(given);
  if (metadata !== undefined) {
    checkFeeds(modelId, feeds, metadata.inputs);
    checkOutputNames(modelId, outputs, metadata);
  }
  // The request that is shadowed takes over what the caller gives away.
  const { release, takeOver, apartBytes } = ownFeeds(feeds, {
    slabs,
    isTransfer: transfer === true,
    usesAllocated: !isShadow,
  });
  return {
    releaseFeeds: release,
    feeds,
    payload: undefined,
    outputs,
    checked: metadata !== undefined,
    takeOver,
    apartBytes,
  };
}

/** Without a prototype, to which a program may have added properties. */
const NO_FEEDS: ReadFeeds = Object.freeze(Object.create(null));

/**
 * Copies a request for a handler.
 *
 * @param path the targets of the requests within which it is made, and its own.
 * @throws InfermuxError `INVALID_ARGUMENT` for a request that cannot be cloned.
 */
export function readHandlerRequest(
  request: unknown,
  { outputs, transfer }: RunOptions,
  path: readonly string[],
  { deadline, stream, isShadow, terms }: Pick<RequestPayload, 'deadline' | 'stream' | 'isShadow' | 'terms'>,
): OwnedRequest {
  if (outputs !== undefined || transfer === true) {
    const message = 'outputs and transfer are for models, but a handler takes this request: leave them out';
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  const value = cloneRequest(request);
  return {
    releaseFeeds: undefined,
    feeds: NO_FEEDS,
    payload: { value, abandoned: undefined, path, isShadow, deadline, stream, terms },
    outputs: undefined,
    checked: true,
    takeOver: undefined,
    apartBytes: 0,
  };
}

/** @throws InfermuxError `INVALID_ARGUMENT` for a request that cannot be cloned. */
export function cloneRequest(request: unknown): unknown {
  try {
    return clone(request);
  } catch (cause) {
    const message = `the request cannot be cloned, so no handler can take it: ${messageOf(cause)}`;
    throw new InfermuxError('INVALID_ARGUMENT', message, { cause });
  }
}
