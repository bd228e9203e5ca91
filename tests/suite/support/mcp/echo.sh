# An MCP server over stdio that has tools of the names that it is given, and answers each request with what it was asked
# and with the notifications that came before it. It reads lines as the guard writes them.
tools=
for name; do tools="${tools:+$tools,}{\"name\":\"$name\",\"inputSchema\":{}}"; done
before=
while IFS= read -r line; do
    case $line in
    '{"jsonrpc":"2.0","id":'*) ;;
    *) before="${before:+$before,}$line"; continue ;;
    esac
    id=${line#'{"jsonrpc":"2.0","id":'}
    id=${id%%,\"method\":*}
    printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[],"tools":[%s],"asked":%s,"before":[%s]}}\n' \
        "$id" "$tools" "$line" "$before"
    before=
done
