"""What runs inside Redis: each script is one step that everybody sees whole or not at all.

Keys, under a prefix that names the catalogue:

    meta                revision, sequence, key, newest; live generations jobs and users;
                        of an import under way: source, full, claim, done, changed, owned and
                        the generations staged_jobs and staged_users; imported
    heads:N  texts:N    hashes by job id, of generation N
    users:N             hash by user id
    lines:KIND:N        hash by id: digests of the lines that an import took
    own:KIND:N          set of the ids that came by no import
    diff:KIND:N         set of the ids by which a gathered generation differs from the live one
    erased              hash: keyed hash of who was erased -> when, epoch seconds
    log                 list, one entry a change: "REVISION:" and the ids of the jobs touched, with
                        spaces, "!" before the hash of somebody erased or back; "*" for all

A revision is a number that nobody drew before, so that a server which lost its last second, or
everything, is never taken for what it was. Ids stay strings: a number of Lua holds 53 bits.
Each answer is a list that begins with a word. Arguments begin with the prefix's key.
"""

from __future__ import annotations

LOGGED = 1_000
"""Of so many changes is known what they touched; behind them an index is made anew."""

MOST_CHANGED = 10_000
"""An index that lacks more changes than this is made anew."""

_HEAD = """
local p = KEYS[1]
local m = {}
do
  local raw = redis.call('HGETALL', p .. 'meta')
  for i = 1, #raw, 2 do m[raw[i]] = raw[i + 1] end
end
local call = redis.call
local function name(part, gen) return p .. part .. ':' .. gen end
local function some(key, ids, first, last)
  local found = {}
  for i = first, last, 4000 do
    local part = call('HMGET', key, unpack(ids, i, math.min(i + 3999, last)))
    for j = 1, #part do found[#found + 1] = part[j] end
  end
  return found
end
local is_empty = m.revision == nil or m.revision == '0'
"""

LOOK = (
    _HEAD
    + f"""
-- known revision, known sequence -> what to do to know the present
local known, seen = ARGV[1], tonumber(ARGV[2])
if is_empty then return {{'EMPTY'}} end
if m.revision == known then return {{'SAME'}} end
local anew = {{'ANEW', m.revision, m.sequence, m.jobs, m.key}}
local behind = tonumber(m.sequence) - seen
if known == '0' or behind < 1 or behind > {LOGGED - 1} then return anew end
local entries = call('LRANGE', p .. 'log', -(behind + 1), -1)
if #entries ~= behind + 1 or entries[1]:match('^%d+') ~= known then return anew end
local ids, hashes, met = {{}}, {{}}, {{}}
for i = 2, #entries do
  for token in entries[i]:match(':(.*)$'):gmatch('%S+') do
    if token == '*' then return anew end
    if not met[token] then
      met[token] = true
      if token:sub(1, 1) == '!' then hashes[#hashes + 1] = token:sub(2)
      else ids[#ids + 1] = token end
      if #ids + #hashes > {MOST_CHANGED} then return anew end
    end
  end
end
return {{'CHANGED', m.revision, m.sequence, ids, some(name('heads', m.jobs), ids, 1, #ids),
        hashes, some(p .. 'erased', hashes, 1, #hashes)}}
"""
)

GET = (
    _HEAD
    + """
-- revision that it must be or "", tables with spaces, ids... -> values, a list for each table
if is_empty then return {'EMPTY'} end
if ARGV[1] ~= '' and ARGV[1] ~= m.revision then return {'LATER'} end
local found = {'OK'}
for part in ARGV[2]:gmatch('%S+') do
  local kind = part == 'users' and 'users' or 'jobs'
  found[#found + 1] = some(name(part, m[kind]), ARGV, 3, #ARGV)
end
return found
"""
)

EXIST = (
    _HEAD
    + """
-- table, ids... -> "1" or "0" for each id in one string, and how many there are in all
if is_empty then return {'EMPTY'} end
local key = name(ARGV[1], ARGV[1] == 'users' and m.users or m.jobs)
local found = {}
for i = 2, #ARGV do found[i - 1] = call('HEXISTS', key, ARGV[i]) end
return {'OK', table.concat(found), call('HLEN', key)}
"""
)

IMPORTED = _HEAD + "return {'OK', m.imported or false}"

_WRITE = (
    _HEAD
    + f"""
-- every change: new revision, a key for a new store, whether a store was seen before; then its own
local revision, is_known = ARGV[1], ARGV[3] == '1'
local entry = {{}}
local function set(field, value)
  m[field] = value
  if value then call('HSET', p .. 'meta', field, value) else call('HDEL', p .. 'meta', field) end
end
local function make()
  if m.revision then return end
  for _, pair in ipairs({{{{'revision', '0'}}, {{'sequence', '0'}}, {{'key', ARGV[2]}},
      {{'newest', '1'}}, {{'jobs', '1'}}, {{'users', '1'}}}}) do set(pair[1], pair[2]) end
end
local function touch(token) entry[#entry + 1] = token end
local is_touched = false
local function revise()
  if not is_touched then return end
  set('revision', revision)
  set('sequence', string.format('%.0f', tonumber(m.sequence) + 1))
  call('RPUSH', p .. 'log', revision .. ':' .. table.concat(entry, ' '))
  call('LTRIM', p .. 'log', -{LOGGED}, -1)
  is_empty = false
end
local function targets(kind)
  local gens = {{m[kind]}}
  if m['staged_' .. kind] then gens[2] = m['staged_' .. kind] end
  return gens
end
local tables = {{jobs = {{'heads', 'texts'}}, users = {{'users'}}}}
local function drop(kind, gen)
  for _, part in ipairs(tables[kind]) do call('UNLINK', name(part, gen)) end
  for _, part in ipairs({{'lines:', 'own:', 'diff:'}}) do
    call('UNLINK', name(part .. kind, gen))
  end
end
-- put values under an id into all generations in use, and tell what became of the live one
local function put(kind, id, values)
  local outcome
  for n, gen in ipairs(targets(kind)) do
    local is_there, is_same = true, true
    for i, part in ipairs(tables[kind]) do
      local before = call('HGET', name(part, gen), id)
      is_there = is_there and before
      is_same = is_same and before == values[i]
    end
    if not is_same then
      for i, part in ipairs(tables[kind]) do call('HSET', name(part, gen), id, values[i]) end
    end
    if call('HEXISTS', name('lines:' .. kind, gen), id) == 0 then
      call('SADD', name('own:' .. kind, gen), id)
    end
    if n == 1 then
      outcome = is_same and 'UNCHANGED' or is_there and 'UPDATED' or 'CREATED'
    end
  end
  return outcome
end
local function remove(kind, id)
  local outcome
  for n, gen in ipairs(targets(kind)) do
    local removed = 0
    for _, part in ipairs(tables[kind]) do
      removed = removed + call('HDEL', name(part, gen), id)
    end
    call('SREM', name('own:' .. kind, gen), id)
    if n == 1 then outcome = removed > 0 and 'REMOVED' or 'MISSING' end
  end
  return outcome
end
"""
)

_CHANGE = (
    _WRITE
    + """
if is_empty and is_known then return {'LOST'} end
make()
local outcomes = {'OK'}
"""
)

_KEYED = """
-- Hashes were made with the key that was sent along
if m.key ~= ARGV[2] then return {'KEY', m.key} end
"""

_CHANGED = """
revise()
return outcomes
"""

PUT_JOBS = (
    _CHANGE
    + """
for i = 4, #ARGV, 3 do
  local outcome = put('jobs', ARGV[i], {ARGV[i + 1], ARGV[i + 2]})
  if outcome ~= 'UNCHANGED' then is_touched = true; touch(ARGV[i]) end
  outcomes[#outcomes + 1] = outcome
end
"""
    + _CHANGED
)

CLOSE_JOBS = (
    _CHANGE
    + """
for i = 4, #ARGV do
  local outcome
  for n, gen in ipairs(targets('jobs')) do
    local key = name('heads', gen)
    local head, became = call('HGET', key, ARGV[i]), 'MISSING'
    if head then
      -- The last byte of a head is `closed`: 195 is true in MessagePack
      local closed = head:sub(1, -2) .. string.char(195)
      became = closed == head and 'UNCHANGED' or 'UPDATED'
      if became == 'UPDATED' then call('HSET', key, ARGV[i], closed) end
    end
    if n == 1 then outcome = became end
  end
  if outcome == 'UPDATED' then is_touched = true; touch(ARGV[i]) end
  outcomes[#outcomes + 1] = outcome
end
"""
    + _CHANGED
)

REMOVE_JOBS = (
    _CHANGE
    + """
for i = 4, #ARGV do
  local outcome = remove('jobs', ARGV[i])
  if outcome == 'REMOVED' then is_touched = true; touch(ARGV[i]) end
  outcomes[#outcomes + 1] = outcome
end
"""
    + _CHANGED
)

PUT_USERS = (
    _CHANGE
    + _KEYED
    + """
for i = 4, #ARGV, 3 do
  local outcome = put('users', ARGV[i], {ARGV[i + 1]})
  if call('HDEL', p .. 'erased', ARGV[i + 2]) == 1 then
    is_touched = true; touch('!' .. ARGV[i + 2])
  end
  if outcome ~= 'UNCHANGED' then is_touched = true end
  outcomes[#outcomes + 1] = outcome
end
"""
    + _CHANGED
)

ERASE_USERS = (
    _CHANGE
    + _KEYED
    + """
local at = ARGV[4]
for i = 5, #ARGV, 2 do
  outcomes[#outcomes + 1] = remove('users', ARGV[i])
  for _, gen in ipairs(targets('users')) do call('HDEL', name('lines:users', gen), ARGV[i]) end
  call('HSET', p .. 'erased', ARGV[i + 1], at)
  is_touched = true; touch('!' .. ARGV[i + 1])
end
"""
    + _CHANGED
)

BEGIN = (
    _WRITE
    + """
-- claim, source, full, kinds with spaces, then what is known of erasures, should the store be lost
local claim, source, full, kinds = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
if is_empty and is_known and full ~= '1' then return {'LOST'} end
make()
if is_empty and is_known then
  set('key', ARGV[2])
  for i = 8, #ARGV, 2 do call('HSET', p .. 'erased', ARGV[i], ARGV[i + 1]) end
end
if m.source == source and m.full == full then
  set('claim', claim)
else
  for kind in pairs(tables) do
    if m['staged_' .. kind] then drop(kind, m['staged_' .. kind]); set('staged_' .. kind, nil) end
  end
  set('newest', string.format('%.0f', tonumber(m.newest) + 1))
  if full == '1' then
    for kind in kinds:gmatch('%S+') do set('staged_' .. kind, m.newest) end
  end
  for field, value in pairs({source = source, full = full, claim = claim, done = '0'}) do
    set(field, value)
  end
  set('changed', nil); set('owned', full ~= '1' and '1' or nil)
end
return {'OK', tonumber(m.done), m.owned or false, m.jobs, m.users}
"""
)

TAKE_OVER = (
    _WRITE
    + """
-- claim, kind, ids of the live generation that came by no import: they go along
if m.claim ~= ARGV[4] then return {'ENDED'} end
local kind = ARGV[5]
local live, staged = m[kind], m['staged_' .. kind]
for i = 6, #ARGV do
  local id = ARGV[i]
  if call('SISMEMBER', name('own:' .. kind, live), id) == 1
      and call('HEXISTS', name(tables[kind][1], staged), id) == 0 then
    for _, part in ipairs(tables[kind]) do
      local value = call('HGET', name(part, live), id)
      if value then call('HSET', name(part, staged), id, value) end
    end
    call('SADD', name('own:' .. kind, staged), id)
  end
end
return {'OK'}
"""
)

TAKEN_OVER = (
    _WRITE
    + """
if m.claim ~= ARGV[4] then return {'ENDED'} end
set('owned', '1')
return {'OK'}
"""
)

EXTEND = (
    _WRITE
    + """
-- claim, items taken before, items now; then kind, id, digest, hash, value, value of each
if m.claim ~= ARGV[4] or m.done ~= ARGV[5] then return {'ENDED'} end
"""
    + _KEYED
    + """
for i = 7, #ARGV, 6 do
  local kind, id, digest = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local values = {ARGV[i + 4], ARGV[i + 5]}
  local live = m[kind]
  local target = m['staged_' .. kind] or live
  local is_staged = target ~= live
  if kind == 'jobs' or call('HEXISTS', p .. 'erased', ARGV[i + 3]) == 0 then
    if is_staged and call('HGET', name('lines:' .. kind, live), id) == digest then
      -- As it was imported before: what became of it since counts
      for _, part in ipairs(tables[kind]) do
        local value = call('HGET', name(part, live), id)
        if value then call('HSET', name(part, target), id, value)
        else call('HDEL', name(part, target), id) end
      end
      call('SREM', name('diff:' .. kind, target), id)
    else
      local is_same = true
      for n, part in ipairs(tables[kind]) do
        is_same = is_same and call('HGET', name(part, target), id) == values[n]
        call('HSET', name(part, target), id, values[n])
      end
      if is_staged then call('SADD', name('diff:' .. kind, target), id)
      elseif not is_same then
        is_touched = true
        if kind == 'jobs' then touch(id) end
      end
    end
    call('HSET', name('lines:' .. kind, target), id, digest)
    call('SREM', name('own:' .. kind, target), id)
  end
end
set('done', string.format('%.0f', tonumber(m.done) + tonumber(ARGV[6])))
if is_touched then set('changed', '1') end
revise()
return {'OK'}
"""
)

FINISH = (
    _WRITE
    + """
if m.claim ~= ARGV[4] then return {'ENDED'} end
local is_changed = m.changed == '1'
if m.full == '1' then
  is_changed = false
  for kind, parts in pairs(tables) do
    local staged = m['staged_' .. kind]
    if staged then
      local is_same = call('SCARD', name('diff:' .. kind, staged)) == 0
      for _, part in ipairs({parts[1], 'lines:' .. kind}) do
        is_same = is_same
          and call('HLEN', name(part, staged)) == call('HLEN', name(part, m[kind]))
      end
      is_changed = is_changed or not is_same
    end
  end
  for kind in pairs(tables) do
    local staged, live = m['staged_' .. kind], m[kind]
    if staged then
      -- What goes is unlinked: the server frees it in the background
      drop(kind, is_changed and live or staged)
      if is_changed then set(kind, staged); call('UNLINK', name('diff:' .. kind, staged)) end
      set('staged_' .. kind, nil)
    end
  end
  set('imported', m.source)
  if is_changed then is_touched = true; touch('*'); revise() end
end
for _, field in ipairs({'source', 'full', 'claim', 'done', 'changed', 'owned'}) do
  set(field, nil)
end
return {'OK', is_changed and 1 or 0}
"""
)
