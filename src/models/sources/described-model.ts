import { dirname, resolve } from 'node:path';
import { type ErrorCode, InfermuxError, show } from '../../common/errors.js';
import { lookFailed } from '../../common/files/system-errors.js';
import { type FoundModel, formatOf } from '../registered-model.js';
import type { Manifest } from './manifest.js';
import { isWithin, type ModelFileReader, type ModelFiles } from './model-files.js';

/** A model's file with what is said of it. */
export interface DescribedModel {
  readonly id: string;
  readonly version: number;
  readonly path: string;
  readonly manifest: Manifest;
  /** Paths of manifests that the model depends on. */
  readonly manifests: readonly string[];
}

/** A model, with when its files last changed, and the paths of all of them. */
export interface ReadModel {
  readonly model: FoundModel;
  readonly changedAt: number;
  readonly paths: readonly string[];
}

/**
 * Looks at the files of a model.
 *
 * @param mayPin whether its manifest may pin it.
 * @param code of the error when they cannot be read.
 * @throws InfermuxError `INVALID_ARGUMENT` for hashes of files elsewhere; with that code.
 */
export async function readDescribed(
  described: DescribedModel,
  files: ModelFileReader,
  mayPin: boolean,
  code: ErrorCode = 'FAILED_PRECONDITION',
): Promise<ReadModel> {
  const { id, path, manifests } = described;
  try {
    const read = await files.read(path, manifests);
    const model = describedModel(described, read, mayPin);
    return { model, changedAt: read.changedAt, paths: [...read.files.map((file) => file.path), ...manifests] };
  } catch (cause) {
    throw lookFailed(code, `model ${show(id)}`, cause);
  }
}

/** The model with these files. @throws InfermuxError `INVALID_ARGUMENT` for hashes of files elsewhere. */
export function describedModel(
  { id, version, path, manifest }: Omit<DescribedModel, 'manifests'>,
  { changedAt: _, ...read }: ModelFiles,
  mayPin: boolean,
): FoundModel {
  const { batching, session, weights, pinned = false, warmUp, licence } = manifest;
  return {
    ...{ id, version, path, ...read, format: formatOf(path) },
    ...{ batching, session, weights, isPinned: mayPin && pinned, warmUp, licence },
    sha256: hashesByPath(path, manifest.sha256),
  };
}

function hashesByPath(path: string, sha256: Manifest['sha256']): Readonly<Record<string, string>> | undefined {
  if (sha256 === undefined) return undefined;
  if (typeof sha256 === 'string') return { [path]: sha256.toLowerCase() };
  const folder = dirname(path);
  return Object.fromEntries(
    Object.entries(sha256).map(([name, hash]) => {
      const file = resolve(folder, name);
      if (!isWithin(folder, file)) {
        throw new InfermuxError('INVALID_ARGUMENT', `${path}: sha256 names ${show(name)}, which is not in its folder`);
      }
      return [file, hash.toLowerCase()];
    }),
  );
}
