// Prints the OrderPlaced events of a Varve store, in the order in which they were recorded.
//
//   python -c "import orders, varve.schema; print(varve.schema.to_fbs(orders.OrderPlaced))" > orders.fbs
//   flatc --cpp schemas/varve.fbs orders.fbs
//   g++ -std=c++17 read_log.cpp -o read_log -llmdb
//   ./read_log data
//
// docs/format.md describes the log. A reading transaction sees one consistent instant, also while Python writes.

#include <lmdb.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "orders_generated.h"
#include "varve_generated.h"

static void check(int code, const char *what) {
  if (code == 0) return;
  std::fprintf(stderr, "%s: %s\n", what, mdb_strerror(code));
  std::exit(1);
}

static void fail(const char *what) {
  std::fprintf(stderr, "%s\n", what);
  std::exit(1);
}

// Event types are declared in the block that holds their first event.
static void declare(const varve::format::Block *block, std::map<uint16_t, std::string> &types) {
  if (!block->type_numbers()) return;
  uint32_t start = 0;
  for (flatbuffers::uoffset_t i = 0; i < block->type_numbers()->size(); i++) {
    uint32_t end = block->type_name_ends()->Get(i);
    types[block->type_numbers()->Get(i)] =
        std::string(reinterpret_cast<const char *>(block->type_names()->data()) + start, end - start);
    start = end;
  }
}

int main(int argc, char **argv) {
  if (argc != 2) fail("usage: read_log STORE");
  MDB_env *env;
  MDB_txn *txn;
  MDB_dbi log;
  MDB_cursor *cursor;
  check(mdb_env_create(&env), "create");
  check(mdb_env_set_maxdbs(env, 16), "maxdbs");
  check(mdb_env_open(env, argv[1], MDB_RDONLY, 0600), "open");
  check(mdb_txn_begin(env, nullptr, MDB_RDONLY, &txn), "begin");
  check(mdb_dbi_open(txn, "varve.log", 0, &log), "varve.log");
  check(mdb_cursor_open(txn, log, &cursor), "cursor");

  std::map<uint16_t, std::string> types;
  MDB_val key, value;
  while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
    // 4 bytes of crc32, 4 of format and flags, then the FlatBuffer.
    const uint8_t *frame = static_cast<const uint8_t *>(value.mv_data);
    flatbuffers::Verifier verifier(frame + 8, value.mv_size - 8);
    if (!varve::format::VerifyBlockBuffer(verifier)) fail("a block is damaged");
    const varve::format::Block *block = varve::format::GetBlock(frame + 8);
    declare(block, types);

    flatbuffers::uoffset_t index = 0;
    for (flatbuffers::uoffset_t run = 0; run < block->run_counts()->size(); run++) {
      bool wanted = types[block->run_types()->Get(run)] == "OrderPlaced";
      for (uint32_t n = 0; n < block->run_counts()->Get(run); n++, index++) {
        uint32_t start = index ? block->ends()->Get(index - 1) : 0, end = block->ends()->Get(index);
        if (!wanted) continue;
        const uint8_t *event = block->payload()->data() + start;
        flatbuffers::Verifier inner(event, end - start);
        if (!VerifyOrderPlacedBuffer(inner)) fail("an event is damaged");
        const OrderPlaced *order = GetOrderPlaced(event);
        std::printf("%llu %llu %s %u %llu\n", static_cast<unsigned long long>(block->first_sequence() + index),
                    static_cast<unsigned long long>(order->order_id()), order->product()->c_str(), order->quantity(),
                    static_cast<unsigned long long>(order->amount()));
      }
    }
  }
  mdb_cursor_close(cursor);
  mdb_txn_abort(txn);
  mdb_env_close(env);
}
