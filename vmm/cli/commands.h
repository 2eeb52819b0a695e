/*
 * The commands. Each gets its own name as argv[0] and returns the exit status (options.h).
 */
#ifndef STRATA_CLI_COMMANDS_H
#define STRATA_CLI_COMMANDS_H

int cmd_doctor(int argc, char **argv);
int cmd_measure(int argc, char **argv);
int cmd_dma(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_tour(int argc, char **argv);

#endif
