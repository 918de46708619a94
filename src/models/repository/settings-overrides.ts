import type { ModelSettings } from '../sources/manifest.js';
import type { ModelScanner, RepositoryScan } from './scanned-model.js';

export interface SettingsOverride {
  readonly settings: ModelSettings;
  /** Tells it apart from other overrides of the same model. */
  readonly mark: string;
}

/** Scans for models, some of which have other settings than their sources say. */
export class SettingsOverrides implements ModelScanner {
  readonly #scanner: ModelScanner;
  readonly #overrides = new Map<string, SettingsOverride>();
  #serial = 0;

  constructor(scanner: ModelScanner) {
    this.#scanner = scanner;
  }

  /** The override of the model that a later look finds; undefined: what its source says. */
  of(id: string): SettingsOverride | undefined {
    return this.#overrides.get(id);
  }

  create(settings: ModelSettings): SettingsOverride {
    this.#serial += 1;
    return { settings, mark: `override ${this.#serial}` };
  }

  put(id: string, override: SettingsOverride | undefined): void {
    if (override === undefined) this.#overrides.delete(id);
    else this.#overrides.set(id, override);
  }

  async scan(only?: string, except?: number): Promise<RepositoryScan> {
    const scan = await this.#scanner.scan(only, except);
    if (this.#overrides.size === 0) return scan;
    const models = new Map(scan.models);
    for (const [id, { settings, mark }] of this.#overrides) {
      const found = models.get(id);
      if (found === undefined) {
        // A directory that is not mounted says nothing about its models.
        const isGone = except === undefined && (only === undefined ? !scan.isEmpty : only === id);
        if (isGone) this.#overrides.delete(id);
        continue;
      }
      const served = found.served.map((model) => ({ ...model, ...settings, mark: `${model.mark ?? ''} ${mark}` }));
      models.set(id, { ...found, served });
    }
    return { ...scan, models };
  }
}
