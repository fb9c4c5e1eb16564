/** The architecture rules over a set of sources: an empty answer means that they all hold. */
import { readSource } from './graph.ts';
import type { Edge, SourceFacts } from './graph.ts';
import {
  EMPTY_NAMES,
  ENVIRONMENT_READER,
  IMPORTS,
  MAX_LINES,
  PACKAGES,
  SUITE_RESOLVERS,
} from './rules.ts';

/** The part of a path relative to `src/`: its top folder, or a root file's name without `.ts`. */
export const partOf = (path: string): string =>
  path.includes('/') ? (path.split('/')[0] ?? path) : path.replace(/\.ts$/u, '');

const ownEdgeAllowed = (edge: Edge): boolean => {
  const part = partOf(edge.from);
  const allowed = IMPORTS[part] ?? [];
  return (
    partOf(edge.to) === part ||
    allowed.includes('*') ||
    allowed.includes(partOf(edge.to)) ||
    allowed.includes(edge.to) ||
    (edge.typeOnly && allowed.includes(`type ${edge.to}`))
  );
};

const edgeViolation = (edge: Edge, known: ReadonlySet<string>): string | undefined => {
  const arrow = `${edge.from} -> ${edge.to}`;
  if (edge.kind === 'builtin') return undefined;
  if (edge.kind === 'package') {
    const parts = PACKAGES[edge.to];
    if (parts === undefined) return `${arrow}: the package is not in the table`;
    return parts.includes(partOf(edge.from)) ? undefined : `${arrow}: the package has its own part`;
  }
  if (edge.to.startsWith('store/generated/')) {
    return partOf(edge.from) === 'store' ? undefined : `${arrow}: generated code is the store's`;
  }
  if (!known.has(edge.to)) return `${arrow}: no such file`;
  return ownEdgeAllowed(edge) ? undefined : `${arrow}: forbidden edge`;
};

const fileViolations = (facts: SourceFacts, known: ReadonlySet<string>): string[] => {
  const part = partOf(facts.path);
  const own = facts.complaints.map((complaint) => `${facts.path}: ${complaint}`);
  if (!(part in IMPORTS)) own.push(`${facts.path}: part ${part} is not in the table`);
  if (facts.lines > MAX_LINES) own.push(`${facts.path}: ${facts.lines} lines`);
  if (facts.path.split('/').some((step) => EMPTY_NAMES.includes(step))) {
    own.push(`${facts.path}: a folder name that says nothing`);
  }
  if (facts.readsEnvironment && part !== ENVIRONMENT_READER) {
    own.push(`${facts.path}: reads process.env`);
  }
  if (facts.resolvesSuites && ![part, facts.path].some((at) => SUITE_RESOLVERS.includes(at))) {
    own.push(`${facts.path}: looks a suite up by its id`);
  }
  const edges = facts.edges.map((edge) => edgeViolation(edge, known));
  return [...own, ...edges.filter((text) => text !== undefined)];
};

/** Import cycles between files, each named once by its members in order. */
const cycles = (files: readonly SourceFacts[]): string[] => {
  const next = new Map(
    files.map(({ path, edges }) => [
      path,
      edges.filter(({ kind, entry }) => kind === 'own' && !entry).map(({ to }) => to),
    ]),
  );
  const done = new Set<string>();
  const found: string[] = [];
  const walk = (path: string, trail: readonly string[]): void => {
    const start = trail.indexOf(path);
    if (start >= 0) found.push(`cycle: ${[...trail.slice(start), path].join(' -> ')}`);
    if (start >= 0 || done.has(path)) return;
    for (const target of next.get(path) ?? []) walk(target, [...trail, path]);
    done.add(path);
  };
  for (const path of next.keys()) walk(path, []);
  return found;
};

/** All violations in `sources` (path relative to `src/` -> text). */
export const violations = (sources: ReadonlyMap<string, string>): string[] => {
  const files = [...sources].map(([path, text]) => readSource(path, text));
  const known = new Set(sources.keys());
  return [...files.flatMap((facts) => fileViolations(facts, known)), ...cycles(files)];
};
