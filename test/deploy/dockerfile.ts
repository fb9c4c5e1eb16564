/** A strict reader of Dockerfiles: what it does not know is an error, so that a test sees all of one. */

export interface Instruction {
  readonly name: string;
  /** The text behind the name, continuation lines joined, comments within them left out. */
  readonly text: string;
}

export interface Stage {
  readonly base: string;
  readonly name: string | undefined;
  readonly instructions: readonly Instruction[];
}

const KNOWN = ['ARG', 'FROM', 'RUN', 'COPY', 'WORKDIR', 'LABEL', 'ENV', 'USER', 'EXPOSE'];
const ENDINGS = ['STOPSIGNAL', 'ENTRYPOINT', 'CMD'];

const instructionsOf = (source: string): Instruction[] => {
  const lines = source.split('\n').filter((line) => !/^\s*(?:#.*)?$/u.test(line));
  const joined = lines.join('\n').replaceAll(/\\\n\s*/gu, '');
  return joined.split('\n').map((line) => {
    const [, name = '', text = ''] = /^([A-Z]+) +(\S.*)$/u.exec(line) ?? [];
    if (![...KNOWN, ...ENDINGS].includes(name)) throw new Error(`not an instruction: ${line}`);
    return { name, text };
  });
};

/** The stages, with the defaults of `ARG`s before the first one put in. */
export const parseDockerfile = (source: string): Stage[] => {
  const defaults = new Map<string, string>();
  const stages: (Stage & { instructions: Instruction[] })[] = [];
  for (const instruction of instructionsOf(source)) {
    const { name, text } = instruction;
    const stage = stages.at(-1);
    if (name === 'ARG' && stage === undefined) {
      const [key = '', value = ''] = text.split('=');
      defaults.set(key, value);
    } else if (name === 'FROM') {
      const given = text.replaceAll(/\$\{(\w+)\}/gu, (_, key: string) => defaults.get(key) ?? '');
      const [, base = '', as] = /^(\S+)(?: AS (\S+))?$/u.exec(given) ?? [];
      if (base === '') throw new Error(`not a base image: ${text}`);
      stages.push({ base, name: as, instructions: [] });
    } else if (stage === undefined) throw new Error(`${name} before FROM`);
    else stage.instructions.push(instruction);
  }
  return stages;
};

export const textsOf = ({ instructions }: Stage, name: string): string[] =>
  instructions.filter((one) => one.name === name).map(({ text }) => text);

/** The text of an instruction that there must be exactly one of. */
export const only = (stage: Stage, name: string): string => {
  const [text, ...more] = textsOf(stage, name);
  if (text === undefined || more.length > 0) throw new Error(`not one ${name}`);
  return text;
};

/** An ENTRYPOINT or CMD in its exec form; the shell form, whose shell would take the signals, is an error. */
export const execForm = (stage: Stage, name: 'ENTRYPOINT' | 'CMD'): string[] =>
  JSON.parse(only(stage, name)) as string[];

export interface Copy {
  readonly from: string | undefined;
  readonly sources: readonly string[];
  readonly target: string;
}

export const copiesOf = (stage: Stage): Copy[] =>
  textsOf(stage, 'COPY').map((text) => {
    const [, from, paths = ''] = /^(?:--from=(\S+) )?(.+)$/u.exec(text) ?? [];
    const sources = paths.split(/\s+/u);
    const target = sources.pop() ?? '';
    if (sources.length === 0 || paths.includes('--')) throw new Error(`not a COPY: ${text}`);
    return { from, sources, target };
  });

export const environmentOf = (stage: Stage): Record<string, string> =>
  Object.fromEntries(
    textsOf(stage, 'ENV')
      .flatMap((text) => text.split(/\s+/u))
      .map((pair) => {
        const [, name = '', value = ''] = /^(\w+)=([^"'\s]+)$/u.exec(pair) ?? [];
        if (name === '') throw new Error(`not an assignment: ${pair}`);
        return [name, value];
      }),
  );
