#!lua name=tramontane
-- The queue's state changes, each one atomic: everything is checked before anything is written,
-- because Redis does not roll back.
--
-- State of a group, JSON in the hash `state` under its gid:
--   s  "waiting" | "leased" | "completed" | "dead", or an end state as Retire was given it
--   e  id of its entry in the stream that it is in      p  purpose, "train" | "eval"
--   d  deliveries so far; the newest is the fencing token of its lease
--   f  failed deliveries so far                         b  address of its payload
--   w  worker, t  claim time in ms (leased only)        r  reason (dead only)
-- The journal of the trainer is the truth; this is what is needed to dispatch.

local EVAL, TRAIN, COMPLETED, DEAD, STATE, META, ENDED = 1, 2, 3, 4, 5, 6, 7
local GROUP = 'generators'
local MAX_FIELD_BYTES = 512       -- claim check: payloads live in blobs
local REMEMBERED_ENDS = 65536     -- ended groups kept, so that a late admission is recognised
local REAP_BATCH = 128

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function ensure(keys)
  for _, k in ipairs({EVAL, TRAIN}) do
    if redis.call('EXISTS', keys[k]) == 0 then
      redis.call('XGROUP', 'CREATE', keys[k], GROUP, '0', 'MKSTREAM')
    end
  end
end

local function load_state(keys, gid)
  local raw = redis.call('HGET', keys[STATE], gid)
  if raw then return cjson.decode(raw) end
  return nil
end

local function save_state(keys, gid, st)
  redis.call('HSET', keys[STATE], gid, cjson.encode(st))
end

local function stream_of(keys, st)
  if st.p == 'eval' then return keys[EVAL] end
  return keys[TRAIN]
end

local function is_live(st)
  return st.s == 'waiting' or st.s == 'leased' or st.s == 'completed' or st.s == 'dead'
end

local function alarm(keys, kind)
  redis.call('HINCRBY', keys[META], 'alarm:' .. kind, 1)
end

-- Fields of a stream entry as a table; nil when the entry is gone.
local function read_entry(key, id)
  local found = redis.call('XRANGE', key, id, id)
  if #found == 0 then return nil end
  local fields = {}
  local flat = found[1][2]
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  return fields
end

-- Puts a group (back) into its stream under a new entry, so that waiting means "not yet delivered".
local function enqueue(keys, gid, st)
  st.e = redis.call('XADD', stream_of(keys, st), '*', 'gid', gid, 'blob', st.b)
  st.s = 'waiting'
  st.w = nil
  st.t = nil
  save_state(keys, gid, st)
end

local function take_out(keys, st)
  local key = stream_of(keys, st)
  redis.call('XACK', key, GROUP, st.e)
  redis.call('XDEL', key, st.e)
end

-- One failed delivery: back to the queue, or to the dead stream at the limit.
local function count_failure(keys, gid, st, reason, max_deliveries)
  take_out(keys, st)
  st.f = st.f + 1
  if st.f >= max_deliveries then
    st.s = 'dead'
    st.r = reason
    st.w = nil
    st.t = nil
    st.e = redis.call('XADD', keys[DEAD], '*', 'gid', gid, 'blob', st.b, 'reason', reason)
    save_state(keys, gid, st)
  else
    redis.call('HINCRBY', keys[META], 'redelivered', 1)
    enqueue(keys, gid, st)
  end
end

-- The state, if (delivery, worker) still holds the lease on gid.
local function held(keys, gid, delivery, worker)
  local st = load_state(keys, gid)
  if st and st.s == 'leased' and st.d == tonumber(delivery) and st.w == worker then return st end
  return nil, st
end

local function lost(st)
  local how = 'unknown group'
  if st then
    how = 'group is ' .. st.s
    if st.s == 'leased' then how = how .. ' by ' .. st.w .. ', delivery ' .. st.d end
  end
  return redis.error_reply('LEASELOST ' .. how)
end

-- Refuses a trainer that has been superseded, and tells one that Redis forgot about it.
local function check_epoch(keys, epoch)
  local current = tonumber(redis.call('HGET', keys[META], 'epoch') or '0')
  if epoch < current then
    return redis.error_reply('FENCED epoch ' .. epoch .. ' was superseded by ' .. current)
  end
  if epoch > current then
    return redis.error_reply('FORGOTTEN epoch ' .. epoch .. ' is unknown here (' .. current .. ')')
  end
  return nil
end

-- fence(at_least): starts a new epoch above both the current one and at_least.
local function fence(keys, args)
  ensure(keys)
  local current = tonumber(redis.call('HGET', keys[META], 'epoch') or '0')
  local epoch = math.max(current, tonumber(args[1])) + 1
  redis.call('HSET', keys[META], 'epoch', epoch)
  return epoch
end

-- reset(): empties the queue for a run that starts from nothing; the epoch stays.
local function reset(keys, args)
  local epoch = redis.call('HGET', keys[META], 'epoch')
  redis.call('UNLINK', unpack(keys))
  if epoch then redis.call('HSET', keys[META], 'epoch', epoch) end
  ensure(keys)
  return 'OK'
end

-- restore(epoch): after Redis lost its data, goes on with the epoch of the trainer that noticed.
local function restore(keys, args)
  ensure(keys)
  local epoch = tonumber(args[1])
  local current = tonumber(redis.call('HGET', keys[META], 'epoch') or '0')
  if epoch < current then return check_epoch(keys, epoch) end
  if epoch > current then
    redis.call('HSET', keys[META], 'epoch', epoch)
    alarm(keys, 'data_lost')
  end
  return epoch
end

-- admit(epoch, gid, blob, purpose, high_water) → ADMITTED | KNOWN | BUSY | ENDED
local function admit(keys, args)
  local epoch, gid, blob, purpose = tonumber(args[1]), args[2], args[3], args[4]
  if #gid + #blob > MAX_FIELD_BYTES then return redis.error_reply('ERR gid or blob too long') end
  local refused = check_epoch(keys, epoch)
  if refused then return refused end
  ensure(keys)
  local st = load_state(keys, gid)
  if st then
    if not is_live(st) then return 'ENDED' end
    if st.s == 'waiting' and not read_entry(stream_of(keys, st), st.e) then
      alarm(keys, 'entry_lost')
      enqueue(keys, gid, st)
    end
    return 'KNOWN'
  end
  st = {p = purpose, b = blob, d = 0, f = 0}
  local key = stream_of(keys, st)
  local waiting = redis.call('XLEN', key) - redis.call('XPENDING', key, GROUP)[1]
  if waiting >= tonumber(args[5]) then return 'BUSY' end
  enqueue(keys, gid, st)
  return 'ADMITTED'
end

local function lease_reply(gid, st)
  return {gid, st.b, st.e, st.d}
end

-- claim(worker, nonce) → {gid, blob, entry, delivery}, or {eval id, train id} after which to wait.
-- Repeating a claim with the same nonce gives the same lease: its first reply may have been lost.
local function claim(keys, args)
  local worker, nonce = args[1], args[2]
  ensure(keys)
  local before = redis.call('HGET', keys[META], 'claim:' .. worker)
  if before and string.sub(before, 1, #nonce + 1) == nonce .. ' ' then
    local gid = string.sub(before, #nonce + 2)
    local st = load_state(keys, gid)
    if st and st.s == 'leased' and st.w == worker then return lease_reply(gid, st) end
  end
  for _, k in ipairs({EVAL, TRAIN}) do
    local found = redis.call('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', 1, 'STREAMS', keys[k], '>')
    if found then
      local id = found[1][2][1][1]
      local flat = found[1][2][1][2]
      local gid, blob = flat[2], flat[4]
      local st = load_state(keys, gid)
      if not st then
        st = {p = k == EVAL and 'eval' or 'train', b = blob, d = 0, f = 0}
      end
      st.s = 'leased'
      st.e = id
      st.d = st.d + 1
      st.w = worker
      st.t = now_ms()
      save_state(keys, gid, st)
      redis.call('HSET', keys[META], 'claim:' .. worker, nonce .. ' ' .. gid)
      return lease_reply(gid, st)
    end
  end
  local last = {}
  for _, k in ipairs({EVAL, TRAIN}) do
    local info = redis.call('XINFO', 'STREAM', keys[k])
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then last[#last + 1] = info[i + 1] end
    end
  end
  return last
end

-- renew(gid, delivery, worker)
local function renew(keys, args)
  local st, other = held(keys, args[1], args[2], args[3])
  if not st then return lost(other) end
  redis.call('XCLAIM', stream_of(keys, st), GROUP, args[3], 0, st.e, 'JUSTID')
  return 'OK'
end

-- complete(gid, delivery, worker, blob)
local function complete(keys, args)
  local gid, blob = args[1], args[4]
  if #blob > MAX_FIELD_BYTES then return redis.error_reply('ERR blob too long') end
  local st, other = held(keys, gid, args[2], args[3])
  if not st then
    -- The same completion again: its first reply was lost.
    if other and other.s == 'completed' and other.d == tonumber(args[2]) and other.b == blob then
      return 'OK'
    end
    return lost(other)
  end
  take_out(keys, st)
  st.s = 'completed'
  st.b = blob
  st.w = nil
  st.t = nil
  st.e = redis.call('XADD', keys[COMPLETED], '*', 'gid', gid, 'blob', blob)
  save_state(keys, gid, st)
  return 'OK'
end

-- release(gid, delivery, worker)
local function release(keys, args)
  local st, other = held(keys, args[1], args[2], args[3])
  if not st then return lost(other) end
  take_out(keys, st)
  enqueue(keys, args[1], st)
  return 'OK'
end

-- fail(gid, delivery, worker, reason, max_deliveries)
local function fail(keys, args)
  local st, other = held(keys, args[1], args[2], args[3])
  if not st then return lost(other) end
  count_failure(keys, args[1], st, string.sub(args[4], 1, MAX_FIELD_BYTES), tonumber(args[5]))
  return 'OK'
end

-- reap(lease_ms, max_deliveries) → number of leases taken back
local function reap(keys, args)
  local lease_ms, max_deliveries = tonumber(args[1]), tonumber(args[2])
  ensure(keys)
  local taken = 0
  for _, k in ipairs({EVAL, TRAIN}) do
    local key = keys[k]
    local result = redis.call('XAUTOCLAIM', key, GROUP, 'reaper', lease_ms, '0', 'COUNT', REAP_BATCH, 'JUSTID')
    for _, id in ipairs(result[2]) do
      local fields = read_entry(key, id)
      local st = fields and load_state(keys, fields.gid)
      if st and st.s == 'leased' and st.e == id then
        count_failure(keys, fields.gid, st, 'lease expired, held by ' .. st.w, max_deliveries)
        taken = taken + 1
      else
        -- An entry that no lease explains: not ours to deliver again.
        alarm(keys, 'stray_entry')
        redis.call('XACK', key, GROUP, id)
        redis.call('XDEL', key, id)
      end
    end
    if #result[3] > 0 then
      -- Entries deleted behind our back while they were leased: find and deliver them again.
      local missing = {}
      for _, id in ipairs(result[3]) do
        missing[id] = true
        alarm(keys, 'entry_lost')
      end
      local all = redis.call('HGETALL', keys[STATE])
      for i = 1, #all, 2 do
        local st = cjson.decode(all[i + 1])
        if st.s == 'leased' and missing[st.e] and stream_of(keys, st) == key then
          enqueue(keys, all[i], st)
          taken = taken + 1
        end
      end
    end
  end
  return taken
end

-- retire(epoch, end state, gid…): out of every stream, whatever state it is in.
local function retire(keys, args)
  local refused = check_epoch(keys, tonumber(args[1]))
  if refused then return refused end
  local ended = 0
  for i = 3, #args do
    local gid = args[i]
    local st = load_state(keys, gid)
    if not st or is_live(st) then
      if st then
        if st.s == 'completed' then
          redis.call('XDEL', keys[COMPLETED], st.e)
        elseif st.s == 'dead' then
          redis.call('XDEL', keys[DEAD], st.e)
        else
          take_out(keys, st)
        end
      end
      save_state(keys, gid, {s = args[2]})
      redis.call('LPUSH', keys[ENDED], gid)
      ended = ended + 1
    end
  end
  while redis.call('LLEN', keys[ENDED]) > REMEMBERED_ENDS do
    redis.call('HDEL', keys[STATE], redis.call('RPOP', keys[ENDED]))
  end
  return ended
end

-- stats() → flat list of names and numbers (as text), and the holder of the oldest lease.
local function stats(keys, args)
  ensure(keys)
  local waiting, leased, oldest_waiting, oldest_lease, holder = 0, 0, 0, 0, ''
  local now = now_ms()
  for _, k in ipairs({EVAL, TRAIN}) do
    local key = keys[k]
    local pending = redis.call('XPENDING', key, GROUP)[1]
    leased = leased + pending
    waiting = waiting + redis.call('XLEN', key) - pending
    local groups = redis.call('XINFO', 'GROUPS', key)
    local delivered = '0'
    for i = 1, #groups[1], 2 do
      if groups[1][i] == 'last-delivered-id' then delivered = groups[1][i + 1] end
    end
    local first = redis.call('XRANGE', key, '(' .. delivered, '+', 'COUNT', 1)
    if #first > 0 then
      oldest_waiting = math.max(oldest_waiting, now - tonumber(string.match(first[1][1], '^%d+')))
    end
    -- Entries are delivered in the order of their ids, so the first pending one is the oldest lease.
    local held_first = redis.call('XPENDING', key, GROUP, '-', '+', 1)
    if #held_first > 0 then
      local fields = read_entry(key, held_first[1][1])
      local st = fields and load_state(keys, fields.gid)
      if st and st.t and now - st.t >= oldest_lease then
        oldest_lease = now - st.t
        holder = st.w
      end
    end
  end
  local out = {
    'waiting', waiting, 'leased', leased,
    'completed', redis.call('XLEN', keys[COMPLETED]), 'dead', redis.call('XLEN', keys[DEAD]),
    'oldest_waiting_ms', oldest_waiting, 'oldest_lease_ms', oldest_lease,
    'oldest_lease_worker', holder,
    'redelivered', tonumber(redis.call('HGET', keys[META], 'redelivered') or '0'),
  }
  for _, kind in ipairs({'entry_lost', 'stray_entry', 'data_lost'}) do
    out[#out + 1] = kind
    out[#out + 1] = tonumber(redis.call('HGET', keys[META], 'alarm:' .. kind) or '0')
  end
  return out
end

-- live() → flat list of gid, state and payload address of every group still in the queue
local function live(keys, args)
  local out = {}
  local all = redis.call('HGETALL', keys[STATE])
  for i = 1, #all, 2 do
    local st = cjson.decode(all[i + 1])
    if is_live(st) then
      out[#out + 1] = all[i]
      out[#out + 1] = st.s
      out[#out + 1] = st.b
    end
  end
  return out
end

redis.register_function('tramontane_fence', fence)
redis.register_function('tramontane_reset', reset)
redis.register_function('tramontane_restore', restore)
redis.register_function('tramontane_admit', admit)
redis.register_function('tramontane_claim', claim)
-- What frees memory or finishes work stays allowed when Redis is at its memory limit.
local FULL_OK = {'allow-oom'}
redis.register_function{function_name = 'tramontane_renew', callback = renew, flags = FULL_OK}
redis.register_function{function_name = 'tramontane_complete', callback = complete, flags = FULL_OK}
redis.register_function{function_name = 'tramontane_release', callback = release, flags = FULL_OK}
redis.register_function{function_name = 'tramontane_fail', callback = fail, flags = FULL_OK}
redis.register_function{function_name = 'tramontane_reap', callback = reap, flags = FULL_OK}
redis.register_function{function_name = 'tramontane_retire', callback = retire, flags = FULL_OK}
redis.register_function{function_name = 'tramontane_stats', callback = stats, flags = FULL_OK}
redis.register_function{function_name = 'tramontane_live', callback = live, flags = FULL_OK}
