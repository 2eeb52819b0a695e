#include "devices/core/board.h"

#include "guest/abi/machine.h"

int board_create(struct board *board, struct vm *vm, const struct board_config *config)
{
    int err;

    board->vm = vm;
    err = serial_create(&board->serial, vm, ABI_SERIAL_PORT, ABI_SERIAL_GSI, config->console_out_fd,
                        config->console_room_fd);
    if (err)
        return err;
    err = doorbell_create(&board->doorbell, vm, config->checkpoint, config->checkpoint_owner);
    if (err)
        goto destroy_serial;
    err = i8042_create(&board->i8042, vm);
    if (err)
        goto destroy_serial;
    return 0;

destroy_serial:
    serial_destroy(&board->serial);
    return err;
}

void board_destroy(struct board *board)
{
    serial_destroy(&board->serial);
}

unsigned board_describe(const struct board *board, struct board_node *nodes, unsigned max)
{
    const struct board_node all[] = {
        { .name = "serial",
          .compatible = "ns16550a",
          .port = board->serial.region.base,
          .bytes = board->serial.region.len,
          .gsi = (int)board->serial.gsi },
        { .name = "doorbell",
          .compatible = ABI_DOORBELL_COMPATIBLE,
          .port = board->doorbell.region.base,
          .bytes = board->doorbell.region.len,
          .gsi = -1 },
    };
    unsigned count = sizeof(all) / sizeof(all[0]) < max ? sizeof(all) / sizeof(all[0]) : max;

    for (unsigned i = 0; i < count; i++)
        nodes[i] = all[i];
    return count;
}
