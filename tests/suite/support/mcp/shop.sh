# An MCP server over stdio with two tools, which are what the program WORK can do: `count` and `wipe`.
while IFS= read -r line; do
    case $line in '{"jsonrpc":"2.0","id":'*) ;; *) continue ;; esac
    id=${line#'{"jsonrpc":"2.0","id":'}
    id=${id%%,\"method\":*}
    result='{"tools":[{"name":"count","inputSchema":{}},{"name":"wipe","inputSchema":{}}]}'
    case $line in
    *'"method":"tools/call","params":{"name":"'*)
        name=${line#*'"params":{"name":"'}
        sh "$WORK" "${name%%\"*}" </dev/null >/dev/null
        result='{"content":[{"type":"text","text":"done"}]}'
        ;;
    esac
    printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
done
