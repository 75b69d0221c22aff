/* The scripts: what must happen all together or not at all, and only if the state is what the caller
 * believes. Values to be added are encoded by C: Lua's cjson turns [] into {}. */
#include "common/client/queue_internal.h"

const char *const QUEUE_SCRIPT_TEXT[QUEUE_SCRIPTS] = {
    /* KEYS stream, mark; ARGV expected mark, new mark, maxlen, value... */
    [QUEUE_SCRIPT_APPEND] = "local mark = redis.call('GET', KEYS[2]) or ''\n"
                            "if mark ~= ARGV[1] then\n"
                            "  return redis.error_reply('FENCED ' .. mark)\n"
                            "end\n"
                            "for i = 4, #ARGV do\n"
                            "  if ARGV[3] ~= '0' then\n"
                            "    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*',"
                            " 'message', ARGV[i])\n"
                            "  else\n"
                            "    redis.call('XADD', KEYS[1], '*', 'message', ARGV[i])\n"
                            "  end\n"
                            "end\n"
                            "redis.call('SET', KEYS[2], ARGV[2])\n"
                            "return #ARGV - 3\n",

    /* KEYS stream, last; ARGV group, 1 if acknowledged entries are deleted. Where they are kept, a group
     * that was lost begins behind the last one acknowledged. */
    [QUEUE_SCRIPT_GROUP] =
        "local start = ARGV[2] == '0' and redis.call('GET', KEYS[2]) or '0'\n"
        "return redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], start, 'MKSTREAM')\n",

    /* KEYS last; ARGV ms, sequence. Only ever upwards. */
    [QUEUE_SCRIPT_LAST] = "local last = redis.call('GET', KEYS[1])\n"
                          "if last then\n"
                          "  local ms, sequence = string.match(last, '(%d+)-(%d+)')\n"
                          "  ms, sequence = tonumber(ms), tonumber(sequence)\n"
                          "  local new = tonumber(ARGV[1])\n"
                          "  if ms > new or (ms == new and sequence >= tonumber(ARGV[2])) then\n"
                          "    return 0\n"
                          "  end\n"
                          "end\n"
                          "redis.call('SET', KEYS[1], ARGV[1] .. '-' .. ARGV[2])\n"
                          "return 1\n",

    /* KEYS lease, names; ARGV instance, token, ttl ms, consumer name.
     * 0: somebody else's; 1: it was free; 2: it was our instance's own: an unclean end. */
    [QUEUE_SCRIPT_LEASE] =
        "local token = redis.call('GET', KEYS[1])\n"
        "if token and string.sub(token, 1, #ARGV[1] + 1) ~= ARGV[1] .. ':' then\n"
        "  return 0\n"
        "end\n"
        "redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])\n"
        "redis.call('SADD', KEYS[2], ARGV[4])\n"
        "return token and 2 or 1\n",

    /* KEYS lease; ARGV token, ttl ms. 1: renewed; 0: gone or another's. */
    [QUEUE_SCRIPT_RENEW] = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then\n"
                           "  return 0\n"
                           "end\n"
                           "return redis.call('PEXPIRE', KEYS[1], ARGV[2])\n",

    /* KEYS lease, names, stream; ARGV token, consumer name, group. A name with nothing pending goes. */
    [QUEUE_SCRIPT_RELEASE] =
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then\n"
        "  return 0\n"
        "end\n"
        "redis.call('DEL', KEYS[1])\n"
        "if redis.call('EXISTS', KEYS[3]) == 1 and\n"
        "   #redis.call('XPENDING', KEYS[3], ARGV[3], '-', '+', 1, ARGV[2]) == 0 then\n"
        "  redis.call('XGROUP', 'DELCONSUMER', KEYS[3], ARGV[3], ARGV[2])\n"
        "  redis.call('SREM', KEYS[2], ARGV[2])\n"
        "end\n"
        "return 1\n",

    /* KEYS lease of the name, names, stream; ARGV group, me, name, count.
     * Takes over what a consumer without a lease left; once it has nothing more, its name goes. */
    [QUEUE_SCRIPT_ADOPT] =
        "if redis.call('EXISTS', KEYS[1]) == 1 or redis.call('EXISTS', KEYS[3]) == 0 then\n"
        "  return {}\n"
        "end\n"
        "local pending = redis.call('XPENDING', KEYS[3], ARGV[1], '-', '+', ARGV[4], ARGV[3])\n"
        "if #pending == 0 then\n"
        "  redis.call('XGROUP', 'DELCONSUMER', KEYS[3], ARGV[1], ARGV[3])\n"
        "  redis.call('SREM', KEYS[2], ARGV[3])\n"
        "  return {}\n"
        "end\n"
        "local ids = {}\n"
        "for i, entry in ipairs(pending) do\n"
        "  redis.call('XCLAIM', KEYS[3], ARGV[1], ARGV[2], 0, entry[1], 'JUSTID')\n"
        "  ids[i] = entry[1]\n"
        "end\n"
        "return ids\n",

    /* KEYS stream, delayed; ARGV group, me, id, score, member, delete after. 0: no longer ours. */
    [QUEUE_SCRIPT_RETRY] =
        "local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)\n"
        "if #pending == 0 or pending[1][2] ~= ARGV[2] then\n"
        "  return 0\n"
        "end\n"
        "redis.call('ZADD', KEYS[2], 'NX', ARGV[4], ARGV[5])\n"
        "redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])\n"
        "if ARGV[6] == '1' then\n"
        "  redis.call('XDEL', KEYS[1], ARGV[3])\n"
        "end\n"
        "return 1\n",

    /* KEYS delayed, stream; ARGV member, value, maxlen. 0: another worker has moved it. */
    [QUEUE_SCRIPT_MOVE] = "if redis.call('ZREM', KEYS[1], ARGV[1]) ~= 1 then\n"
                          "  return 0\n"
                          "end\n"
                          "if ARGV[3] ~= '0' then\n"
                          "  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*',"
                          " 'message', ARGV[2])\n"
                          "else\n"
                          "  redis.call('XADD', KEYS[2], '*', 'message', ARGV[2])\n"
                          "end\n"
                          "return 1\n",
};
