/*
 * Holds objects of Kubernetes against the schemas of its API, which the package kubernetes-models brings along as compiled
 * functions. As the API does, these pass over keys that they do not know: here such a key is a fault.
 */

interface Validate {
  (value: unknown): boolean;
  errors?: readonly { readonly instancePath: string; readonly message?: string }[] | null;
}

const SCHEMAS: Readonly<Record<string, () => Promise<unknown>>> = {
  'apps/v1 Deployment': () => import('kubernetes-models/_schemas/IoK8sApiAppsV1Deployment'),
  'v1 Service': () => import('kubernetes-models/_schemas/IoK8sApiCoreV1Service'),
  'autoscaling/v2 HorizontalPodAutoscaler': () =>
    import('kubernetes-models/_schemas/IoK8sApiAutoscalingV2HorizontalPodAutoscaler'),
  'policy/v1 PodDisruptionBudget': () => import('kubernetes-models/_schemas/IoK8sApiPolicyV1PodDisruptionBudget'),
  Container: () => import('kubernetes-models/_schemas/IoK8sApiCoreV1Container'),
  Volume: () => import('kubernetes-models/_schemas/IoK8sApiCoreV1Volume'),
};

/** Returns what is wrong with an object, with its place. @param what `apiVersion kind`, or a part of a pod. */
export async function kubernetesFaults(what: string, value: unknown): Promise<string[]> {
  const schema = SCHEMAS[what];
  if (schema === undefined) return [`no schema of ${what}`];
  const { validate } = (await schema()) as { readonly validate: Validate };
  const asked = new Map<object, Set<string>>();
  const isRight = validate(watched(value, asked));
  const faults = isRight
    ? []
    : (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath}: ${message}`);
  return [...faults, ...unknownKeys(value, '', asked)];
}

/** A value that notes which keys are asked for. */
function watched(value: unknown, asked: Map<object, Set<string>>): unknown {
  if (value === null || typeof value !== 'object') return value;
  if (Array.isArray(value)) return value.map((item) => watched(item, asked));
  const keys = asked.get(value) ?? new Set<string>();
  asked.set(value, keys);
  return new Proxy(value, {
    get(target, key) {
      if (typeof key === 'string') keys.add(key);
      return Object.hasOwn(target, key) ? watched(target[key as keyof typeof target], asked) : undefined;
    },
    // All keys of a map are looked at.
    ownKeys(target) {
      for (const key of Object.keys(target)) keys.add(key);
      return Reflect.ownKeys(target);
    },
  });
}

function unknownKeys(value: unknown, path: string, asked: ReadonlyMap<object, ReadonlySet<string>>): string[] {
  if (Array.isArray(value)) return value.flatMap((item, index) => unknownKeys(item, `${path}/${index}`, asked));
  if (value === null || typeof value !== 'object') return [];
  const keys = asked.get(value);
  // A part that the schema leaves open.
  if (keys === undefined || keys.size === 0) return [];
  return Object.entries(value).flatMap(([key, own]) =>
    keys.has(key) ? unknownKeys(own, `${path}/${key}`, asked) : [`${path}/${key}: no such key`],
  );
}
