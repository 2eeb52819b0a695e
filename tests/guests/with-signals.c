/*
 * with-signals PROGRAM [ARGUMENT…]: runs it with every signal's default action. A
 * shell ignores SIGINT for what it starts in the background, and the program would
 * inherit that; no shell of ours can undo it.
 */
#include <err.h>
#include <signal.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc < 2)
        errx(2, "usage: with-signals PROGRAM [ARGUMENT...]");
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    execv(argv[1], argv + 1);
    err(2, "%s", argv[1]);
}
