/** Shared libraries of a few lines, compiled where a test needs a module that misbehaves in native code. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Compiles C into `<folder>/<name>.so`. */
export function compileShim(folder: string, name: string, source: string): string {
  const [code, library] = [join(folder, `${name}.c`), join(folder, `${name}.so`)];
  writeFileSync(code, source);
  execFileSync('g++', ['-x', 'c', '-shared', '-fPIC', '-o', library, code]);
  return library;
}

/** A library whose C_GenerateKey answers `returnValue` and does nothing. */
export function generationAnswers(folder: string, returnValue: number): string {
  const source = `unsigned long C_GenerateKey(void) { return ${returnValue}ul; }\n`;
  return compileShim(folder, `generate-${returnValue}`, source);
}

/** A library that is no module, and writes its process's environment to `<itself>.env` when loaded. */
export function environmentWriter(folder: string): string {
  const library = join(folder, 'environment.so');
  return compileShim(
    folder,
    'environment',
    `#include <stdio.h>
     extern char **environ;
     __attribute__((constructor)) static void show(void) {
       FILE *out = fopen("${library}.env", "w");
       for (char **one = environ; out && *one; one++) fprintf(out, "%s\\n", *one);
       if (out) fclose(out);
     }
    `,
  );
}

/** Places of functions in a CK_FUNCTION_LIST (PKCS #11 v2.40, pkcs11f.h). */
const RECORDED = { C_InitToken: 9, C_InitPIN: 10, C_SetPIN: 11, C_Login: 18 } as const;

/**
 * A module that hands everything to `module` and writes a line to `<itself>.calls` for each call that
 * would change a token's PINs, initialise it or log in (with the kind of user: 0 SO, 1 user).
 */
export function callRecorder(folder: string, module: string): string {
  const library = join(folder, 'recorder.so');
  const wrappers = Object.entries(RECORDED).map(
    ([name, place]) => `
      static unsigned long ${name}_(unsigned long a, unsigned long b, void *c, unsigned long d, void *e) {
        FILE *out = fopen("${library}.calls", "a");
        if (out) { fprintf(out, "${name}${name === 'C_Login' ? ' %lu' : ''}\\n", b); fclose(out); }
        return ((call *)theirs[${place}])(a, b, c, d, e);
      }`,
  );
  const places = Object.entries(RECORDED).map(
    ([name, place]) => `ours[1 + ${place}] = (void *)${name}_;`,
  );
  return compileShim(
    folder,
    'recorder',
    `#include <dlfcn.h>
     #include <stdio.h>
     #include <string.h>
     typedef unsigned long call(unsigned long, unsigned long, void *, unsigned long, void *);
     static void **theirs;
     static void *ours[69];
     ${wrappers.join('')}
     unsigned long C_GetFunctionList(void **list) {
       void *handle = dlopen("${module}", RTLD_NOW);
       unsigned long (*get)(void **) = (unsigned long (*)(void **))dlsym(handle, "C_GetFunctionList");
       void *all;
       unsigned long answer = get(&all);
       if (answer) return answer;
       memcpy(ours, all, sizeof ours);
       theirs = (void **)all + 1;
       ${places.join('\n       ')}
       *list = ours;
       return 0;
     }
    `,
  );
}

/** `module` under another manufacturer's name. */
export function foreignModule(folder: string, module: string): string {
  return compileShim(
    folder,
    'foreign',
    `#include <dlfcn.h>
     #include <string.h>
     typedef unsigned long (*get_list)(void ***);
     typedef unsigned long (*get_info)(char *);
     static void *list[69];
     static get_info original;
     static unsigned long info(char *into) {
       unsigned long answer = original(into);
       memcpy(into + 2, "Another maker                   ", 32);
       return answer;
     }
     unsigned long C_GetFunctionList(void ***into) {
       void **theirs;
       get_list get = (get_list)dlsym(dlopen("${module}", RTLD_NOW), "C_GetFunctionList");
       unsigned long answer = get(&theirs);
       memcpy(list, theirs, sizeof list);
       original = (get_info)list[3];
       list[3] = (void *)info;
       *into = list;
       return answer;
     }
    `,
  );
}
