/*
 * What this package adds to the protocol, by the names under which both of its sides know it.
 */

/** Parameter of a request: the answer is to say which replica it is from, and what took how long. */
export const DETAILS_PARAMETER = 'infermux_details';
/** Parameter of a request of `ModelStreamInfer`: each item of a handler's answer is to be an answer. */
export const STREAM_PARAMETER = 'stream';
/** Parameter of an output that is a handler's answer as JSON. */
export const JSON_PARAMETER = 'infermux_json';
/** Parameter of an answer in a stream that tells an error: the error's code. */
export const CODE_PARAMETER = 'infermux_code';
/** Metadata with the code of an error. */
export const CODE_METADATA = 'infermux-code';
/** Metadata with the milliseconds after which another try is worth it. */
export const RETRY_AFTER_METADATA = 'retry-after-ms';
/** Header, and metadata, with the client's name for its request. */
export const REQUEST_ID = 'x-request-id';
/** Header, and metadata, of an answer: which node gave it. */
export const NODE = 'x-infermux-node';
/** Header, and metadata, of an answer: milliseconds for which its request waited for a replica and for its model. */
export const QUEUE_MS = 'x-infermux-queue-ms';
/** Header, and metadata, of an answer: requests that the node had accepted and not answered, this one included. */
export const ONGOING = 'x-infermux-ongoing';
/** Header, and metadata, of a request: the model that it is for, where a proxy cannot see it otherwise. */
export const MODEL = 'x-infermux-model';
/** Header, and metadata, of a request that a proxy must not send twice: with {@link NEVER}. */
export const RETRY = 'x-infermux-retry';
export const NEVER = 'never';
/** Header, and metadata, of a request: one with the same key is a further try of this one. */
export const IDEMPOTENCY_KEY = 'idempotency-key';
/** Type of a server-sent event that tells an error: the items of an answer may look like one. */
export const ERROR_EVENT = 'error';
