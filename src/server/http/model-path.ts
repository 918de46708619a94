/** What can be asked of a model, as the end of its path: the method for it, and its name in metrics. */
export const MODEL_ACTIONS = {
  '': { method: 'GET', operation: 'ModelMetadata' },
  ready: { method: 'GET', operation: 'ModelReady' },
  config: { method: 'GET', operation: 'ModelConfig' },
  stats: { method: 'GET', operation: 'ModelStatistics' },
  infer: { method: 'POST', operation: 'ModelInfer' },
  generate: { method: 'POST', operation: 'ModelGenerate' },
  generate_stream: { method: 'POST', operation: 'ModelGenerateStream' },
} as const;

export type ModelAction = keyof typeof MODEL_ACTIONS;

export interface ModelPath {
  readonly name: string;
  readonly version: string | undefined;
  readonly action: ModelAction;
}

const VERSIONS = '/versions/';

/**
 * Reads what follows `/v2/models/` in a path, from its end: clients leave a slash in a name as it is.
 *
 * @param path decoded.
 */
export function readModelPath(path: string): ModelPath {
  const whole = path.endsWith('/') ? path.slice(0, -1) : path;
  const slash = whole.lastIndexOf('/');
  const last = whole.slice(slash + 1);
  const isAction = last !== '' && Object.hasOwn(MODEL_ACTIONS, last) && (slash > 0 || last === 'stats');
  const action = isAction ? (last as ModelAction) : '';
  const rest = isAction ? whole.slice(0, Math.max(slash, 0)) : whole;
  const at = rest.lastIndexOf(VERSIONS);
  const version = at > 0 ? rest.slice(at + VERSIONS.length) : '';
  if (version === '' || version.includes('/')) return { name: rest, version: undefined, action };
  return { name: rest.slice(0, at), version, action };
}
