/** The pods of manifests: what is common to StatefulSets, Jobs, Deployments and pods themselves. */
import type { V1Container, V1PodSpec, V1PodTemplateSpec, V1Volume } from '@kubernetes/client-node';
import type { Manifest } from './manifests.ts';

export interface Pod {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly spec: V1PodSpec;
}

export const podsOf = (manifests: readonly Manifest[]): Pod[] =>
  manifests.flatMap(({ kind, metadata, spec }) => {
    if (kind === 'Pod') {
      return [{ name: metadata.name, labels: metadata.labels ?? {}, spec: spec as V1PodSpec }];
    }
    const template = (spec as { template?: V1PodTemplateSpec } | undefined)?.template;
    if (template?.spec === undefined) return [];
    return [{ name: metadata.name, labels: template.metadata?.labels ?? {}, spec: template.spec }];
  });

export const containersOf = ({ spec }: Pod): readonly V1Container[] => [
  ...(spec.initContainers ?? []),
  ...spec.containers,
];

export const containerNamed = (pod: Pod, name: string): V1Container => {
  const found = containersOf(pod).find((one) => one.name === name);
  if (found === undefined) throw new Error(`no container ${name} in ${pod.name}`);
  return found;
};

/** @throws where a value is not in the manifest itself */
export const environmentOf = ({ env = [] }: V1Container): Record<string, string> =>
  Object.fromEntries(
    env.map(({ name, value }) => {
      if (value === undefined) throw new Error(`${name} has no value here`);
      return [name, value];
    }),
  );

export interface Mounted {
  readonly mountPath: string;
  readonly readOnly: boolean;
  /** Undefined: of a claim of the StatefulSet. */
  readonly volume: V1Volume | undefined;
  readonly name: string;
}

export const mountsOf = (pod: Pod, container: V1Container): Mounted[] =>
  (container.volumeMounts ?? []).map(({ name, mountPath, readOnly }) => ({
    name,
    mountPath,
    readOnly: readOnly ?? false,
    volume: pod.spec.volumes?.find((one) => one.name === name),
  }));
