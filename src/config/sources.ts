/**
 * Brings flags, environment and file into one raw object for the schema: flags over environment over
 * file. Whatever nobody knows is a problem that names it; nothing is dropped silently.
 */
import { readFileSync } from 'node:fs';
import { TwofoldError } from '../errors.ts';
import { NAME } from '../name.ts';
import { SETTINGS } from './schema.ts';
import type { Setting } from './schema.ts';

/** One thing wrong with the configuration; `where` is the setting, variable or flag to change. */
export interface Problem {
  readonly where: string;
  readonly message: string;
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** Variables of our prefix that are not settings: they steer scripts or name the file. */
export const OTHER_VARIABLES: Readonly<Record<string, string>> = {
  TWOFOLD_CONFIG: 'The configuration file (also `--config`).',
  TWOFOLD_SETUP: '`yes` lets `scripts/setup` install system packages without asking.',
};

type Raw = Record<string, unknown>;

/** A raw configuration, where each of its leaves came from, and what was wrong on the way. */
export interface RawConfig {
  readonly raw: Raw;
  /** Path of a setting -> the variable or flag that set it. */
  readonly origin: ReadonlyMap<string, string>;
  readonly problems: readonly Problem[];
}

const isObject = (value: unknown): value is Raw =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const assign = (target: Raw, path: string, value: unknown): void => {
  const steps = path.split('.');
  const last = steps.pop() ?? path;
  let node = target;
  for (const step of steps) {
    const next = node[step];
    // What the file has here is no section: it stays, for the schema to refuse.
    if (next !== undefined && !isObject(next)) return;
    const child = next ?? {};
    node[step] = child;
    node = child;
  }
  node[last] = value;
};

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
};

/** The text of a variable or flag as the value its setting wants; `undefined` when it is not one. */
const valueOf = (setting: Setting, text: string): unknown => {
  switch (setting.kind) {
    case 'string':
      return text;
    case 'number':
      return /^\d{1,15}$/u.test(text) ? Number(text) : undefined;
    case 'boolean':
      return text === 'true' ? true : text === 'false' ? false : undefined;
    case 'json':
      return parseJson(text);
  }
};

const WANTED = { string: 'text', number: 'a whole number', boolean: 'true or false', json: 'JSON' };

class Collector {
  readonly raw: Raw;
  readonly origin = new Map<string, string>();
  readonly problems: Problem[] = [];

  constructor(raw: Raw) {
    this.raw = raw;
  }

  set(setting: Setting, where: string, text: string): void {
    const value = text === '' ? undefined : valueOf(setting, text);
    if (value === undefined) {
      const message = text === '' ? 'is set but empty' : `must be ${WANTED[setting.kind]}`;
      this.problems.push({ where, message });
      return;
    }
    assign(this.raw, setting.path, value);
    this.origin.set(setting.path, where);
  }
}

const readFile = (path: string | undefined): { raw: Raw; problems: Problem[] } => {
  if (path === undefined) return { raw: {}, problems: [] };
  try {
    const value: unknown = JSON.parse(readFileSync(path, 'utf8'));
    if (isObject(value)) return { raw: value, problems: [] };
    return { raw: {}, problems: [{ where: path, message: 'must hold a JSON object' }] };
  } catch (error) {
    const message = error instanceof SyntaxError ? 'is not JSON' : 'cannot be read';
    return { raw: {}, problems: [{ where: path, message }] };
  }
};

const nearest = (name: string, known: readonly string[]): string => {
  const distance = (a: string, b: string): number => {
    let row = Array.from({ length: b.length + 1 }, (_, index) => index);
    for (const [i, letter] of Array.from(a).entries()) {
      const next = [i + 1];
      for (const [j, other] of Array.from(b).entries()) {
        const swap = (row[j] ?? 0) + (letter === other ? 0 : 1);
        next.push(Math.min(swap, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
      }
      row = next;
    }
    return row.at(-1) ?? 0;
  };
  const [best] = known
    .map((candidate) => ({ candidate, cost: distance(name, candidate) }))
    .sort((a, b) => a.cost - b.cost);
  return best !== undefined && best.cost <= 4 ? `; did you mean ${best.candidate}?` : '';
};

const takeEnvironment = (into: Collector, environment: Environment): void => {
  const byName = new Map(SETTINGS.map((setting) => [setting.env, setting]));
  for (const [name, text] of Object.entries(environment)) {
    if (text === undefined) continue;
    const setting = byName.get(name);
    if (setting !== undefined) into.set(setting, name, text);
    else if (name.startsWith(NAME.environment) && !Object.hasOwn(OTHER_VARIABLES, name)) {
      const message = `is not a variable that we know${nearest(name, [...byName.keys()])}`;
      into.problems.push({ where: name, message });
    }
  }
};

const takeFlags = (into: Collector, flags: ReadonlyMap<string, string>): void => {
  const byName = new Map(SETTINGS.map((setting) => [setting.flag, setting]));
  for (const [name, text] of flags) {
    if (name === 'config') continue;
    const setting = byName.get(name);
    if (setting !== undefined) into.set(setting, `--${name}`, text);
    else into.problems.push({ where: `--${name}`, message: 'is not a setting' });
  }
};

/** Merges the sources; never throws for bad content, which `problems` lists. */
export const collect = (
  environment: Environment,
  flags: ReadonlyMap<string, string>,
): RawConfig => {
  const { raw, problems } = readFile(flags.get('config') ?? environment['TWOFOLD_CONFIG']);
  const collector = new Collector(raw);
  collector.problems.push(...problems);
  takeEnvironment(collector, environment);
  takeFlags(collector, flags);
  return collector;
};

/** Flags of the configuration found in `argv`, and the arguments that remain for the command. */
export interface TakenFlags {
  readonly flags: ReadonlyMap<string, string>;
  readonly rest: readonly string[];
}

/**
 * Takes `--name value`, `--name=value` and `--dev` out of `argv`, up to a `--`.
 *
 * Flags that are no setting stay in `rest`: the command knows or refuses them. A setting's flag
 * without a value is kept with the empty value, which loading then refuses by name.
 *
 * @throws TwofoldError invalid_value when a setting is given twice, `--dev` beside `--mode` included
 */
export const takeConfigFlags = (argv: readonly string[]): TakenFlags => {
  const known = new Set<string | undefined>([...SETTINGS.map(({ flag }) => flag), 'config']);
  const flags = new Map<string, string>();
  const rest: string[] = [];
  const take = (name: string, value: string): void => {
    if (flags.has(name)) {
      const also = name === 'mode' ? ' (--dev is one, too)' : '';
      throw new TwofoldError('invalid_value', `--${name} is given twice${also}.`);
    }
    flags.set(name, value);
  };
  for (let index = 0; index < argv.length; index += 1) {
    const argument = argv[index] ?? '';
    if (argument === '--') {
      rest.push(...argv.slice(index));
      break;
    }
    const [, name, inline] = /^--([a-z0-9-]+)(?:=(.*))?$/su.exec(argument) ?? [];
    if (argument === '--dev') take('mode', 'dev');
    else if (name === undefined || !known.has(name)) rest.push(argument);
    else if (inline !== undefined) take(name, inline);
    else {
      const next = argv[index + 1];
      const taken = next !== undefined && !next.startsWith('--');
      take(name, taken ? next : '');
      if (taken) index += 1;
    }
  }
  return { flags, rest };
};
